"""A run's results in the log formats of other evaluation tools; one file for each format."""
