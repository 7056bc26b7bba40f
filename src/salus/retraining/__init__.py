"""Retraining: policies that turn an alarm into a better model."""
