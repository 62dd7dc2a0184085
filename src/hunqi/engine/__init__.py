"""The engine: the only room that speaks to Docker."""
