"""What is measured: requests, tasks and what apps count themselves; live in memory, history on disk."""
