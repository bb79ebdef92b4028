"""Who asks, and what they may see and do: the one place that decides it, however they were recognised."""

from dataclasses import dataclass

from quintet.config import Project
from quintet.errors import RoleError
from quintet.registry.keys import EVERYTHING, ROLES, Role
from quintet.serving.quota import Account


@dataclass(frozen=True)
class Caller:
    """Who sent a request, by a key, a sign-in or as a channel's person.

    `identity` names them in the audit, as in `key 3f2a`; None where nobody is told apart. `departments` and `roles` are
    their rights. `tags` and `language` are what else is known of a person; nothing is known of a key. `limits` are the
    quotas that their requests are charged to, if any.
    """

    identity: str | None = None
    departments: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    tags: frozenset[str] = frozenset()
    language: str | None = None
    limits: Account | None = None

    @property
    def key_id(self) -> str | None:
        """The key that they came with, if they did."""
        return None if self.limits is None else self.limits.key_id

    @property
    def is_admin(self) -> bool:
        """Whether they administer the server."""
        return "admin" in self.roles

    def may_ask(self, name: str) -> bool:
        """Whether a department, or `base`, is there for them."""
        return name in self.departments or EVERYTHING in self.departments

    def check_role(self, role: Role) -> None:
        """Raise RoleError for a role that they have not."""
        if role not in self.roles:
            raise RoleError(role)

    def visible(self, project: Project) -> Project:
        """Return the project as they may ask it: the other models are not there."""
        return project.visible_to(self.may_ask)

    def administered(self, project: Project) -> Project:
        """Return the project as they may look after it: administrators see every department."""
        return project if self.is_admin else self.visible(project)


ANONYMOUS = Caller()
"""Who sends no key where one is needed: no department is there for them."""
SUPERUSER = Caller(departments=(EVERYTHING,), roles=ROLES)
"""Whoever asks a server that wants no keys."""
