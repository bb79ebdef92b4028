"""ASGI middleware: who asks, how much they send, what is recorded."""
