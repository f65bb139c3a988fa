"""Pages: the status page and the report."""
