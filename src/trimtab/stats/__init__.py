"""Statistics in numpy and plain Python: metrics with intervals, bins, drift distances, tests by betting, limits."""
