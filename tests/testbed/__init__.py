"""Real parts for tests, the demo, benchmarks and the soak: images, registries, bad upstreams, mirrors, clients.

Everything listens on 127.0.0.1 at a port of the kernel's choice, lives in a directory of its own and is stopped by
the context manager that started it. Nothing here skips: a missing program is an error that names its Debian package.
"""
