"""The REST interface under /v1: one authorisation choke point, problem+json, server-sent events."""
