"""Registry: bundles, versions, and what was live when."""
