"""Retraining by policy: an alarm starts a pipeline, the candidate is compared, rolled out, promoted or turned down."""
