"""Which tokens are computed next, and where their keys and values stand."""
