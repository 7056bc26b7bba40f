"""The nouns of serving: endpoints, rollouts, predictions, labels."""
