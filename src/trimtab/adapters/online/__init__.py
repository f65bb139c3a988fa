"""Online rows in LMDB."""
