"""Records in append-only spools, compacted to Parquet."""
