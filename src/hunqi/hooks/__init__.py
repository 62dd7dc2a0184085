"""Webhooks: events told to others over HTTP."""
