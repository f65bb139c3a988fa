"""Monitoring: drift of inputs and predictions, quality once labels have matured; effect and evidence together."""
