"""History from Parquet files."""
