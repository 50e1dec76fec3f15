"""What a run will take, before it starts: memory, hardware, packages."""
