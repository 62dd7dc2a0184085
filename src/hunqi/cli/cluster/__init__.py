"""The cluster's commands: the platform on this machine, and everything that goes through the API."""
