"""quintet.yaml: what a project is. Reads and validates it; knows nothing of models, data rows or HTTP."""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from quintet.endpoint import EndpointSettings
from quintet.errors import ConfigError

CONFIG_NAME = "quintet.yaml"
BASE = "base"
"""The name of the bare base, where a department's could stand."""
RESERVED_NAMES = frozenset({BASE, "models", "infer", "ask", "feedback"})
KeyMode = Literal["auto", "required", "off"]
"""When a request needs a key: once there is one, always, never."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_has_its_defaults(cls, value: Any) -> Any:
        return {} if value is None else value


class LoraConfig(_Section):
    """Low-rank adapters on every linear layer; for the methods `lora` and `qlora`."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    dora: bool = False
    rslora: bool = False


class PrefixConfig(_Section):
    """Virtual tokens as key and value states in every layer."""

    virtual_tokens: int = Field(32, ge=1, le=4096)
    reparameterise: bool = False
    hidden_size: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _a_hidden_size_is_of_the_reparameterisation(self) -> "PrefixConfig":
        if self.hidden_size is not None and not self.reparameterise:
            raise ValueError("'hidden_size' is that of the reparameterisation; set 'reparameterise: true' or remove it")
        return self


class DpoConfig(_Section):
    """How preferences are learnt: what is trained, from where, by which loss."""

    trains: str = Field("lora", min_length=1)
    start_from: str = Field("sft", min_length=1)
    beta: float = Field(0.1, gt=0)
    loss: Literal["sigmoid", "hinge", "ipo", "robust", "exo_pair", "apo_zero", "apo_down", "kto"] = "sigmoid"
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    epochs: float = Field(2.0, gt=0)
    batch_size: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)


class TrainingConfig(_Section):
    """How experts are trained; the defaults suit models of one to eight billion parameters."""

    method: str = Field("lora", min_length=1)
    start_from: str | None = Field(None, min_length=1)
    epochs: float = Field(3.0, gt=0)
    batch_size: int = Field(8, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor"] = "adamw"
    weight_decay: float = Field(0.0, ge=0)
    group_by_length: bool = False
    gradient_checkpointing: bool | None = None
    patience: int | None = Field(None, ge=1)
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    logging_steps: int = Field(10, ge=1)
    seed: int = Field(20, ge=0)
    lora: LoraConfig = LoraConfig()
    prefix: PrefixConfig = PrefixConfig()
    dpo: DpoConfig = DpoConfig()
    peft_options: dict[str, Any] = Field(default_factory=dict)


class FormatConfig(_Section):
    """How the rows of a data set are read; what is not named here is found out from their columns."""

    shape: (
        Literal["messages", "conversations", "preference", "question/answer", "prompt/completion", "instruction"] | None
    ) = None
    columns: dict[str, str] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    instruction: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _labels_have_a_shape_of_their_own(self) -> "FormatConfig":
        if self.labels and self.shape is not None:
            raise ValueError("a data set with labels has no other shape; remove 'shape' or 'labels'")
        if self.instruction is not None and not self.labels:
            raise ValueError("'instruction' is what is asked about each text of a data set with 'labels'; name those")
        return self


def lasting(text: str) -> timedelta | None:
    """Return how long `30m`, `12h`, `90d` or `2w` is; None for what is none of these, or far longer."""
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    found = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    return timedelta(**{units[found[2]]: int(found[1])}) if found else None


TooLong = Literal["refuse", "truncate", "split"]
"""What becomes of a row over the context length."""


class DepartmentConfig(_Section):
    """One department: what it is for, its data, and what it trains differently from the rest."""

    description: str = Field(min_length=1)
    data: Path
    eval_data: Path | None = None
    eval_fraction: float = Field(0.1, gt=0, lt=1)
    preferences: Path | None = None
    format: FormatConfig = FormatConfig()
    too_long: TooLong = "refuse"
    keep_requests: str | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    gate: dict[str, Any] = Field(default_factory=dict)

    @field_validator("keep_requests")
    @classmethod
    def _lasts(cls, text: str | None) -> str | None:
        if text is not None and lasting(text) is None:
            raise ValueError("expected how long, such as 30d, 12h or 8w")
        return text

    @property
    def keeps_for(self) -> timedelta | None:
        """How long requests and answers are kept; without it they are not."""
        return lasting(self.keep_requests) if self.keep_requests else None


class GateConfig(_Section):
    """What an expert must be before it may be released; a rule that is null is not applied."""

    metric: Literal["f1", "exact_match", "rouge_l", "chrf", "accuracy"] = "f1"
    questions: int | None = Field(20, ge=1)
    better_than_base: bool = True
    specific: bool = True
    live_margin: float | None = Field(0.02, ge=0, le=1)
    ended: float | None = Field(0.99, ge=0, le=1)
    general_perplexity: float | None = Field(1.2, gt=0)


class _EndpointSection(_Section):
    role: ClassVar[str]

    url: str
    model: str = Field(min_length=1)
    key_name: str

    def settings(self, environment: Mapping[str, str] = os.environ) -> EndpointSettings:
        """Return whom to ask, with the key that the environment holds; raise ConfigError when it cannot be asked."""
        key = environment.get(self.key_name, "").strip()
        return EndpointSettings(self.url, self.model, key or None, self.key_name, self.role)


class JudgeConfig(_EndpointSection):
    """Which model, behind which OpenAI-compatible endpoint, says whose answer is better."""

    role: ClassVar[str] = "judge"
    key_name: str = "QUINTET_JUDGE_KEY"


class SimilarityConfig(_EndpointSection):
    """Which model, behind which OpenAI-compatible endpoint, embeds answers and references."""

    role: ClassVar[str] = "similarity model"
    key_name: str = "QUINTET_SIMILARITY_KEY"


class EvaluationConfig(_Section):
    """How experts are evaluated."""

    max_tokens: int = Field(128, ge=1)
    batch_size: int = Field(32, ge=1)
    general_data: Path | None = None
    gate: GateConfig = GateConfig()
    judge: JudgeConfig | None = None
    similarity: SimilarityConfig | None = None


LogFormat = Literal["text", "json"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]


def _off(value: object) -> object:
    # YAML reads the bare word as a truth value.
    return "off" if value is False else value


class ServingConfig(_Section):
    """How experts are served."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    keys: Annotated[KeyMode, BeforeValidator(_off)] = "auto"
    default_model: str | None = None
    cors_origins: tuple[str, ...] = ()
    max_queue: int = Field(64, ge=1)
    expert_memory: ByteSize | None = Field(None, gt=0)
    logs: LogFormat = "text"
    engine: Literal["auto", "torch"] = "auto"
    precision: Literal[Precision, "auto"] = "auto"


class RegistryConfig(_Section):
    """Where versions and releases are kept; what several machines share is named by URL."""

    database: str | None = Field(None, min_length=1)
    artifacts: str | None = Field(None, min_length=1)


class Config(_Section):
    """The whole of quintet.yaml."""

    company: str = "My company"
    base_model: str = "nano"
    departments: dict[str, DepartmentConfig] = Field(min_length=1)
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()
    registry: RegistryConfig = RegistryConfig()


class Project:
    """A folder with a quintet.yaml, and where its things lie."""

    def __init__(self, root: Path, config: Config, *, has_base: bool = True) -> None:
        self.root = root
        self.config = config
        self._has_base = has_base

    @classmethod
    def load(cls, root: Path) -> "Project":
        """Read `root`/quintet.yaml; raise ConfigError with line, key and fix when it cannot be used."""
        path = root / CONFIG_NAME
        if not path.is_file():
            raise ConfigError(f"{path} does not exist; make a project with: quintet init {root}")
        try:
            return cls(root, parse_config(path.read_text("utf-8"), path))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8 at byte {error.start + 1}; save it as UTF-8") from None

    @property
    def models(self) -> list[str]:
        """The names that can be asked: those of the departments, and that of the bare base."""
        return [*self.config.departments, *([BASE] if self._has_base else [])]

    def seen_by(self, may_ask: Callable[[str], bool]) -> "Project":
        """Return the project as it is to someone who may ask only some of its models: the others are not there."""
        seen = {name: section for name, section in self.config.departments.items() if may_ask(name)}
        return Project(self.root, self.config.model_copy(update={"departments": seen}), has_base=may_ask(BASE))

    def department(self, name: str) -> DepartmentConfig:
        """Return the department, or raise ConfigError naming the ones there are."""
        if name not in self.config.departments:
            known = ", ".join(self.config.departments)
            raise ConfigError(f"{self.root / CONFIG_NAME} has no department {name!r}; it has: {known}")
        return self.config.departments[name]

    def training(self, name: str) -> TrainingConfig:
        """Return the project's training section with the department's own settings laid over it."""
        merged = _overlay(self.config.training.model_dump(), self.department(name).training)
        return TrainingConfig.model_validate(merged)

    def gate(self, name: str) -> GateConfig:
        """Return the project's gate with the department's own rules laid over it."""
        merged = _overlay(self.config.evaluation.gate.model_dump(), self.department(name).gate)
        return GateConfig.model_validate(merged)

    def path(self, relative: Path) -> Path:
        """Return a path of the config, which is relative to the project folder unless absolute."""
        return self.root / relative.expanduser()

    @property
    def runs(self) -> Path:
        """The folder of all runs: `runs/<department>/<version>`."""
        return self.root / "runs"

    @property
    def database(self) -> str | None:
        """The registry's database URL, if the config names one; raises ConfigError as `artifacts` does."""
        return _expand(self.config.registry.database, "registry.database")

    @property
    def artifacts(self) -> str | None:
        """The object store's URL, if the config names one; raises ConfigError for a variable that is not set."""
        return _expand(self.config.registry.artifacts, "registry.artifacts")


def _expand(text: str | None, key: str) -> str | None:
    """Replace each ${NAME} by that environment variable."""
    if text is None:
        return None

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ConfigError(f"{key}: the environment variable {found[1]} is not set; set it, or change the URL")
        set_ = os.environ[found[1]]
        # As a part of a URL, a password may not hold what ends one.
        return set_ if found[0] == text else set_.replace("%", "%25").replace("@", "%40")

    return re.sub(r"\$\{(\w+)\}", value, text)


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = _overlay(below[key], value) if nested else value
    return merged


def parse_config(text: str, path: Path) -> Config:
    """Validate the text of a quintet.yaml; raise ConfigError listing every problem with its line."""
    try:
        tree = yaml.compose(text)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if repeated := list(_repeated_keys(tree)):
        raise ConfigError(
            "\n".join(f"{path}:{line}: the key {key!r} stands twice in one section" for line, key in repeated)
        )
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: expected keys such as 'base_model:' and 'departments:', found {values!r}")
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, tree, path, ()))) from None
    problems = [line for name in config.departments for line in _check_department(name, config, tree, path)]
    problems += _check_default_model(config, tree, path)
    problems += _check_endpoints(config, tree, path)
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _repeated_keys(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Yield line and name of each key that stands again in its section; YAML itself would keep the last in silence."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, str(key.value)
            seen.add(key.value)
            yield from _repeated_keys(value)


def _check_default_model(config: Config, tree: yaml.Node | None, path: Path) -> list[str]:
    name = config.serving.default_model
    if name is None or name == BASE or name in config.departments:
        return []
    line = _line_of(tree, ("serving", "default_model"))
    known = ", ".join([*config.departments, BASE])
    return [f"{path}:{line}: serving.default_model: {name!r} is no department; expected one of: {known}"]


def _check_endpoints(config: Config, tree: yaml.Node | None, path: Path) -> list[str]:
    sections = {"judge": config.evaluation.judge, "similarity": config.evaluation.similarity}
    found = ((name, _endpoint_problem(section)) for name, section in sections.items() if section is not None)
    return [
        f"{path}:{_line_of(tree, ('evaluation', name, problem[0]))}: evaluation.{name}.{problem[0]}: {problem[1]}"
        for name, problem in found
        if problem is not None
    ]


def _endpoint_problem(section: _EndpointSection) -> tuple[str, str] | None:
    """Return the key that cannot stand, and why: not by pydantic, which shows what it found, and it may be a secret."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", section.key_name):
        return "key_name", "expected the name of the variable that holds the key; keep the key itself out of this file"
    try:
        section.settings({})
    except ConfigError as error:
        return "url", str(error)
    return None


def _check_department(name: str, config: Config, tree: yaml.Node | None, path: Path) -> list[str]:
    where = ("departments", name)
    line = _line_of(tree, where)
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
        return [
            f"{path}:{line}: departments.{name}: a name is used in URLs and folders; "
            "use lower-case letters, digits, '-' and '_', starting with a letter"
        ]
    if name in RESERVED_NAMES:
        return [f"{path}:{line}: departments.{name}: this name is taken by the API; choose another"]
    own = config.departments[name]
    overlays: tuple[tuple[str, type[BaseModel], BaseModel, dict[str, Any]], ...] = (
        ("training", TrainingConfig, config.training, own.training),
        ("gate", GateConfig, config.evaluation.gate, own.gate),
    )
    problems = []
    for section, kind, below, above in overlays:
        try:
            kind.model_validate(_overlay(below.model_dump(), above))
        except ValidationError as error:
            problems += _explain(error, tree, path, (*where, section))
    return problems


def _explain(error: ValidationError, tree: yaml.Node | None, path: Path, prefix: tuple[str | int, ...]) -> list[str]:
    """Return one line for each problem: file, line, key, what was expected and found, the nearest key."""
    lines = []
    for problem in error.errors():
        where = (*prefix, *problem["loc"])
        key = ".".join(map(str, where))
        start = f"{path}:{_line_of(tree, where)}: {key}: "
        if where[-1] == "[key]":
            lines.append(f"{start}a name must be text, found {problem['input']!r}; put it in quotes")
        elif problem["type"] == "extra_forbidden":
            lines.append(start + _unknown_key(str(where[-1]), _known_keys(where[:-1])))
        elif problem["type"] == "missing":
            lines.append(start + "this key is required and missing")
        elif problem["type"].startswith("byte_size"):
            lines.append(f"{start}expected a size such as 4GB or 512MB, found {problem['input']!r}")
        else:
            # A URL of the registry may hold a password.
            found = "something else" if where[0] == "registry" else repr(problem["input"])
            lines.append(f"{start}{problem['msg'].lower()}, found {found}")
    return lines


def _unknown_key(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known: {', '.join(known)}"


def _known_keys(where: tuple[str | int, ...]) -> list[str]:
    """Return the keys that the section at `where` may have."""
    sections: dict[str, type[BaseModel]] = {
        "training": TrainingConfig,
        "evaluation": EvaluationConfig,
        "gate": GateConfig,
        "serving": ServingConfig,
        "registry": RegistryConfig,
        "lora": LoraConfig,
        "prefix": PrefixConfig,
        "dpo": DpoConfig,
        "format": FormatConfig,
        "judge": JudgeConfig,
        "similarity": SimilarityConfig,
    }
    if len(where) == 2 and where[0] == "departments":
        return list(DepartmentConfig.model_fields)
    section = sections.get(str(where[-1])) if where else Config
    return list(section.model_fields) if section else []


def _line_of(node: yaml.Node | None, where: tuple[str | int, ...]) -> int:
    """Return the line of the deepest key of `where` that the file has, counted from 1."""
    line = 1
    for step in where:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = (node.value[step], node.value[step])
        else:
            found = None
        if found is None:
            return line
        line, node = found[0].start_mark.line + 1, found[1]
    return line
