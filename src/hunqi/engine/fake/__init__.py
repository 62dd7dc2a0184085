"""A Swarm in memory, for tests and measurements: the real engine's ports, and its habits as far as one suite shows."""
