"""Registered models: versions, signatures, aliases, gates, approvals."""
