"""Who asks, and what they may."""

from dataclasses import dataclass

from quintet.registry.keys import EVERYTHING, ROLES, Role
from quintet.serving.quota import Account


@dataclass(frozen=True)
class Caller:
    """Who sent a request: what they may ask and do, and on whose account."""

    departments: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    account: Account | None = None

    def may_ask(self, name: str) -> bool:
        """Whether a department, or `base`, is there for them."""
        return name in self.departments or EVERYTHING in self.departments


ANONYMOUS = Caller()


SUPERUSER = Caller((EVERYTHING,), ROLES)
"""Whoever asks a server that wants no keys."""
