"""What could be a library of its own: nothing here knows of registries."""
