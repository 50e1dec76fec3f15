"""A model's replica: the server, its engine, and the accounting of what it answers."""
