"""Serving: endpoints, revisions, rollouts, predictions, labels."""
