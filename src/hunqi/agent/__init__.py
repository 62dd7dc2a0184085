"""The agent of a node: keeps its gateway, drains its tasks, runs commands in them for control."""
