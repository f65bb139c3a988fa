"""The real clock, and one shared between processes."""
