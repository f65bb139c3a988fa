"""Conformance suites, one per port, so that any adapter can prove itself."""
