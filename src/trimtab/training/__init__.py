"""Training: from a frozen dataset to a bundle, reproducibly."""
