"""From traces to batches of token ids."""
