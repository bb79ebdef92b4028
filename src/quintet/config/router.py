"""How the departments are told apart."""

from pydantic import Field

from quintet.config.section import Section


class RouterConfig(Section):
    """How sure the router must be of a department."""

    max_error: float = Field(0.05, gt=0, lt=1)
