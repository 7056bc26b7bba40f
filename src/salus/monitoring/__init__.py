"""Monitoring: windows, detectors, alerts, diagnosis."""
