"""Who may what: users, their grants, the tokens made of them, and the one gate that every request passes.

Values in, values out: nothing here knows of HTTP requests, sockets or the store.
"""
