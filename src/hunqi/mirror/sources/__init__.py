"""Who to ask: blocking, thread-safe access to one source (an upstream registry, a relay or a peer) and what is known
of it.
"""
