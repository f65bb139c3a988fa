"""What the serving benchmarks share: the models, the servers under test, the load, and the reading of CPU time."""
