from pathlib import Path
from typing import Any

import pytest
import torch

from quintet.config import Config, Project
from quintet.engine import precision
from quintet.engine.kernels import prepacked_linear
from quintet.engine.precision import count_weights, served_precision
from quintet.errors import ModelError
from tests.engine.tiny_models import make_base


def project(base: Path, **serving: Any) -> Project:
    departments = {"hr": {"data": "hr.jsonl", "description": "People."}}
    settings = {"base_model": str(base), "departments": departments, "serving": serving}
    return Project(base, Config.model_validate(settings))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), "llama")


def test_weights_are_counted_without_being_loaded(base: Path) -> None:
    for file in base.glob("*.safetensors"):
        assert count_weights(str(base)) * 4 == pytest.approx(file.stat().st_size, rel=0.1)


def test_what_the_config_says_is_what_is_served(base: Path) -> None:
    served = served_precision(project(base, precision="bfloat16"))

    assert (served.precision, served.dtype, served.is_int8) == ("bfloat16", torch.bfloat16, False)


def test_a_small_base_is_served_as_it_was_trained(base: Path) -> None:
    served = served_precision(project(base))

    assert served.precision == "float32"
    assert "small" in served.reason


@pytest.mark.parametrize(
    ("int8", "half", "expected"), [(True, True, "int8"), (False, True, "bfloat16"), (False, False, "float32")]
)
def test_a_large_base_is_served_in_what_the_machine_computes_fast(
    base: Path, monkeypatch: pytest.MonkeyPatch, int8: bool, half: bool, expected: str
) -> None:
    monkeypatch.setattr(precision, "SMALL", 1)
    monkeypatch.setattr(precision, "multiplies_int8", lambda: int8)
    monkeypatch.setattr(precision, "computes", lambda dtype: half)

    assert served_precision(project(base)).precision == expected


def test_int8_where_it_would_overflow_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepacked_linear, "multiplies_int8", lambda: False)

    with pytest.raises(ModelError, match="bfloat16 or float32"):
        served_precision(project(base, precision="int8"))
