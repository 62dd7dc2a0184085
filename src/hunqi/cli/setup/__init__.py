"""``setup docker|containerd|podman``: what a client's files must say so that its pulls come to this mirror.

``plan_*`` are pure: existing files in, new texts and notes out. ``apply`` writes them.
"""
