"""What it costs to have a local engine's answers through Ray Data, kept as they come."""
