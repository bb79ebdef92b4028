"""From a company's files to validated examples. Knows nothing of tokens or models."""
