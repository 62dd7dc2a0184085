"""Apps: a Compose file becomes an app spec, a revision, Swarm services; the reconciler keeps them so."""
