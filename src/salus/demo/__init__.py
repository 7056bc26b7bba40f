"""`salus demo`: a year of real flights through the product's public interfaces, and nothing else."""
