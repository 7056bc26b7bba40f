"""The project of the demo, as a user would write it: data, features, model, pipeline."""
