"""HAProxy in front of the application, by Ray Serve's own means, and safe to start on a laptop."""
