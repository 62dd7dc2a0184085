"""Elastic scaling: an app has as many tasks as its load asks for."""
