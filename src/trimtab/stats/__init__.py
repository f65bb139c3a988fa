"""Statistics in pure numpy: metrics with intervals, bins, drift distances, e-processes, block bootstrap."""
