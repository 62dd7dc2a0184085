"""The other nodes of a cluster: who is live, who owns a digest, and what is pushed to them."""
