"""s1ray: curate, train, serve and measure reasoning models with test-time scaling, on Ray."""

__version__ = "0.1.0"
