"""Governance: the audit trail, and what was live when."""
