"""Linear layers whose weights are rounded or packed for the machine."""
