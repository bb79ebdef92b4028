"""Answers that are given again without being computed again, where computing them would give the same.

key.py says which requests have the same answer, entry.py how one is kept, the stores where, cached_engine.py when.
"""
