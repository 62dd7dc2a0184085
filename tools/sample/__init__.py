"""The images of the sample app, made of Debian packages: no registry, no Docker and no root are needed for it."""
