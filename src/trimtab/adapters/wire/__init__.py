"""HTTP: the serving worker, and the console with its API."""
