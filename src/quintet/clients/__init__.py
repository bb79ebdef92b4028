"""Clients of other programs over HTTP: what they speak, and how long they are waited for."""
