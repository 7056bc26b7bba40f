"""Engines behind the ports, one file each, found by address."""
