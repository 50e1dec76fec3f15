"""What a request may ask of its thinking, resolved against what the server allows."""
