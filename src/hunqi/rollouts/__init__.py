"""Gray release: an app moves to its next revision step by step, by evidence."""
