"""Engines around the engine."""
