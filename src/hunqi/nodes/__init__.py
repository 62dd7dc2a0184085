"""Nodes: the cluster's authority, joining, the roster, draining."""
