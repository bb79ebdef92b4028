"""From examples to an expert. Knows nothing of serving."""
