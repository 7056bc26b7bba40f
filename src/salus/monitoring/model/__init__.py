"""The nouns of monitoring: watches, windows, alerts, diagnoses."""
