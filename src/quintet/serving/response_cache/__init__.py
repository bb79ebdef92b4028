"""Response cache: repeatable answers are given again without being computed again.

key.py says which requests have the same answer, entry.py how one is kept, the stores where, cached_engine.py when.
"""
