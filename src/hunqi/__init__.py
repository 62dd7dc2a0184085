"""Hunqi (魂器): a self-hosted container cloud for companies that run on Docker."""
