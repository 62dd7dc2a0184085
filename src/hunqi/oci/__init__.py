"""Values of the image world: pure, without I/O. Source: OCI image-spec 1.1 and distribution-spec 1.1."""
