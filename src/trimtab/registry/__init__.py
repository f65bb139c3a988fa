"""Registry: bundles, what they hold, and how a trained model becomes a version."""
