"""A benchmark for each promise about speed: each measures a peer or a floor in the same run and prints the ratio."""
