"""The model under training: loading, attention, loss, engine, export."""
