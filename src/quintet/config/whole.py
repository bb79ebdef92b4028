"""The whole of quintet.yaml, made of its sections."""

from pydantic import Field

from quintet.config.departments import DepartmentConfig
from quintet.config.evaluation import EvaluationConfig
from quintet.config.providers import ProviderConfig
from quintet.config.router import RouterConfig
from quintet.config.section import Section
from quintet.config.serving import RegistryConfig, ServingConfig
from quintet.config.training import TrainingConfig

BASE = "base"
"""The name of the bare base, where a department's could stand."""


class Config(Section):
    """The whole of quintet.yaml."""

    company: str = "My company"
    base_model: str = "nano"
    departments: dict[str, DepartmentConfig] = Field(min_length=1)
    providers: dict[str, ProviderConfig] = Field(default_factory=dict)
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()
    router: RouterConfig = RouterConfig()
    registry: RegistryConfig = RegistryConfig()
