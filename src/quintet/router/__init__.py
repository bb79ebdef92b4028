"""Which department a question is for: learnt from the departments' own questions, with an honest "none of these"."""
