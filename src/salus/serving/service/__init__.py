"""What one can do with endpoints: one function for each use case, in the caller's transaction."""
