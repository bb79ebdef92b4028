"""Real data sets, where they lie beside the checkout: whatever they hold, no row is lost."""

from pathlib import Path

import pytest

from quintet.data.examples import Refusal
from quintet.data.loading import ExampleReader
from tools.real_data import SETS, make_project

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not beside the checkout")


@pytest.mark.parametrize("name", SETS)
def test_every_line_is_accepted_or_refused(tmp_path: Path, name: str) -> None:
    project = make_project(tmp_path, DATA)
    settings = project.department(name)
    file = DATA / SETS[name][0]
    parts = [project.path(part) for part in (settings.data, settings.eval_data) if part is not None]
    rows = [row for part in parts for row in ExampleReader(part, settings.format)]
    with file.open("rb") as stream:
        assert len(rows) == sum(1 for line in stream if line.strip())
    assert sum(isinstance(row, Refusal) for row in rows) < 0.1 * len(rows)
