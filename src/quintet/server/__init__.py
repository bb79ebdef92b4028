"""HTTP in front of an engine. Imports no compute library."""
