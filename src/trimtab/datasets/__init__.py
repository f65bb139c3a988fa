"""Datasets: validation, splits, frozen datasets with a digest, and the reference profile."""
