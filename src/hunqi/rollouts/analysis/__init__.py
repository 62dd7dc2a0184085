"""Whether a revision is worse than the one before it: what was measured, what is made of it, and how sure that is."""
