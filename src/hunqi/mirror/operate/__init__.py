"""What the operator asks of a running mirror, over its own socket."""
