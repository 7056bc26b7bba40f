"""Pipelines: steps, runs, schedules, the worker that runs them."""
