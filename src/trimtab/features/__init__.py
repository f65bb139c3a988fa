"""Features: declared once, computed the same way for training (point in time) and for serving (online rows)."""
