"""Blobs in a directory."""
