"""A process reward model as a Serve application of its own: how good each step of a response is."""
