"""What starts and wires: a supervisor that forks, one fetcher, N workers."""
