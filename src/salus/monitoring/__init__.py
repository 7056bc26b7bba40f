"""The doctor: watches, windows, alerts and diagnoses. Harm may alarm; movement is only evidence."""
