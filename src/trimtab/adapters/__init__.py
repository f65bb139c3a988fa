"""Adapters: the only code that touches files, processes and the network."""
