"""Commands: ``hunqi mirror …``. A command parses, calls, and prints; it decides nothing."""
