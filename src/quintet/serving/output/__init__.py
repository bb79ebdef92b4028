"""What an answer is held to, and how its text is read."""
