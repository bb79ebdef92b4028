"""How the departments are told apart."""

from typing import Literal

from pydantic import Field

from quintet.config.section import Section

Below = Literal["choices", "base", "decline"]
"""What becomes of a question that no department is likely to have."""


class RouterConfig(Section):
    """How sure the router must be of a department, and what becomes of a question when it is not."""

    max_error: float = Field(0.05, gt=0, lt=1)
    below: Below = "choices"
