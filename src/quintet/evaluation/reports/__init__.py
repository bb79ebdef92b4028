"""Evaluations as pages, charts and JUnit XML."""
