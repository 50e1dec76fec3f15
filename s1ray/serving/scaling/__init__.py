"""How many replicas there are, and which one takes the next request."""
