"""Series in SQLite."""
