"""A Python client of the REST interface; the command line uses nothing else."""
