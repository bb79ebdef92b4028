"""The registry's schema, step by step; run by `quintet.registry.database` when a process first uses a registry."""
