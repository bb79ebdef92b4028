"""From a question to its answer. Imports no HTTP framework."""
