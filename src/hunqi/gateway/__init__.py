"""The gateway: a route table becomes Envoy's resources; endpoints, health, drains, certificates."""
