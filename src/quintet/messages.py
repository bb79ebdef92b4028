"""What is said: the turns of a conversation. Plain values, no files."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str

    def as_dict(self) -> dict[str, str]:
        """Return the turn as chat templates want it."""
        return {"role": self.role, "content": self.content}
