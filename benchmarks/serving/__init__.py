"""Serving measured side by side: each contestant a process of its own, asked in turn by one driver."""
