"""Datasets: versions, schemas, expectations, profiles."""
