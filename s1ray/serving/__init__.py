"""Serving: the Ray Serve app, its request protocol, and budget forcing for every request."""
