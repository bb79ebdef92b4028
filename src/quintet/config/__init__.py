"""quintet.yaml: what a project is. Reads and validates it; knows nothing of models, data rows or HTTP."""

from quintet.config.departments import DepartmentConfig, FormatConfig, TooLong
from quintet.config.evaluation import EvaluationConfig, GateConfig, JudgeConfig, SimilarityConfig
from quintet.config.parsing import parse_config
from quintet.config.project import CONFIG_NAME, Project
from quintet.config.providers import EXPERT, ProviderConfig
from quintet.config.router import RouterConfig
from quintet.config.section import lasting
from quintet.config.serving import CacheConfig, KeyMode, LogFormat, Precision, RegistryConfig, ServingConfig
from quintet.config.training import DpoConfig, LoraConfig, PrefixConfig, TrainingConfig
from quintet.config.whole import BASE, Config

__all__ = [
    "BASE",
    "CONFIG_NAME",
    "EXPERT",
    "CacheConfig",
    "Config",
    "DepartmentConfig",
    "DpoConfig",
    "EvaluationConfig",
    "FormatConfig",
    "GateConfig",
    "JudgeConfig",
    "KeyMode",
    "LogFormat",
    "LoraConfig",
    "Precision",
    "PrefixConfig",
    "Project",
    "ProviderConfig",
    "RegistryConfig",
    "RouterConfig",
    "ServingConfig",
    "SimilarityConfig",
    "TooLong",
    "TrainingConfig",
    "lasting",
    "parse_config",
]
