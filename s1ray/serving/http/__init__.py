"""HTTP: the application, access, the wire formats, and the call to a replica."""
