"""Which experts there are. Knows nothing of how they are trained or served."""
