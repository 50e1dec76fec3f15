"""What a run tells while it goes on, and how it notices that something is wrong."""
