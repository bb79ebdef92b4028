"""Adapters in the engine's memory: read, loaded, evicted."""
