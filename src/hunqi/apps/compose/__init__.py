"""Compose files: read whole, by the Compose specification, and compiled to an app spec that Swarm can run."""
