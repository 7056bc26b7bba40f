"""What every slice needs to speak HTTP: guards, problem+json, pagination, live feed, limits."""
