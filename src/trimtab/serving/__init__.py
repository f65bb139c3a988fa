"""Serving: the data plane. Sans I/O: bytes and arrays in, bytes and arrays out."""
