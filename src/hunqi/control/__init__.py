"""The control process: the controllers and the REST interface over one database, led by one holder of a lease."""
