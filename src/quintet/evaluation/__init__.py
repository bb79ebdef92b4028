"""Is the expert better than its base? Knows nothing of training or serving."""
