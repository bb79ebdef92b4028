import sys
from math import exp, nan
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from quintet.registry.losses import Curve
from quintet.training.curve import draw_curve, smooth

FALLING = tuple((10 * i, 2 * exp(-i / 10) + 0.5) for i in range(1, 41))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are made."""
    made: list[Figure] = []
    initialise = Figure.__init__

    def remember(figure: Figure, *args: object, **options: object) -> None:
        made.append(figure)
        initialise(figure, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "__init__", remember)
    return made


def labels(figure: Figure) -> list[str]:
    return figure.axes[0].get_legend_handles_labels()[1]


def test_the_moving_average_is_that_of_hand_arithmetic() -> None:
    # A span of 3 gives each value half the weight of the next.
    assert smooth([4, 2, 8], span=3) == pytest.approx([4, (4 + 2 * 2) / 3, (4 + 2 * 2 + 4 * 8) / 7])


def test_the_picture_is_a_png_of_900_by_500_pixels(tmp_path: Path) -> None:
    assert draw_curve(Curve(FALLING, ((200, 1.0), (400, 1.1))), "hr@3", tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert (image.format, image.size) == ("PNG", (900, 500))


def test_nothing_but_the_picture_is_left(tmp_path: Path) -> None:
    draw_curve(Curve(FALLING, ()), "hr@3", tmp_path / "curve.png")
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_a_picture_that_fails_leaves_the_old_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_curve(Curve(FALLING, ()), "hr@3", tmp_path / "curve.png")
    old = (tmp_path / "curve.png").read_bytes()

    def fail(*args: object, **options: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", fail)
    with pytest.raises(OSError, match="no space left"):
        draw_curve(Curve(FALLING[:5], ()), "hr@3", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes() == old


@pytest.mark.parametrize("curve", [Curve((), ()), Curve(((10, nan),), ())])
def test_without_a_loss_nothing_is_drawn(tmp_path: Path, curve: Curve) -> None:
    assert not draw_curve(curve, "hr@3", tmp_path / "curve.png")
    assert list(tmp_path.iterdir()) == []


def test_every_series_is_labelled_and_the_best_step_named(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_curve(Curve(FALLING, ((200, 1.0), (400, 1.25))), "hr@3", tmp_path / "curve.png")
    assert labels(drawn[0]) == [
        "training loss",
        "training loss, moving average",
        "held-out loss",
        "best held-out loss: 1 at step 200",
    ]


def test_a_run_without_held_out_losses_shows_none(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_curve(Curve(FALLING, ()), "hr@3", tmp_path / "curve.png")
    assert labels(drawn[0]) == ["training loss", "training loss, moving average"]


def test_held_out_losses_alone_are_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    assert draw_curve(Curve((), ((200, 1.0),)), "hr@3", tmp_path / "curve.png")
    assert labels(drawn[0])[0] == "held-out loss"


def test_the_axes_are_named(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_curve(Curve(FALLING, ()), "hr@3", tmp_path / "curve.png")
    axes = drawn[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title("left")) == ("step", "loss", "hr@3")


@pytest.mark.parametrize(
    ("curve", "scale"),
    [
        (Curve(((1, 2.0), (2, 0.03)), ()), "linear"),
        (Curve(((1, 2.0), (2, 0.01)), ()), "log"),
        (Curve(((1, 2.0),), ((2, 0.01),)), "log"),
        (Curve(((1, 2.0), (2, 0.0)), ()), "linear"),
    ],
)
def test_the_scale_is_logarithmic_beyond_two_decades(
    tmp_path: Path, drawn: list[Figure], curve: Curve, scale: str
) -> None:
    draw_curve(curve, "hr@3", tmp_path / "curve.png")
    assert drawn[0].axes[0].get_yscale() == scale


def test_a_diverged_run_shows_the_steps_that_have_no_loss(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_curve(Curve(((10, 2.0), (20, 3.0), (30, nan), (90, nan)), ()), "hr@3", tmp_path / "curve.png")
    assert drawn[0].axes[0].get_xlim()[1] >= 90


def test_a_single_loss_is_seen(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_curve(Curve(((10, 2.0),), ()), "hr@3", tmp_path / "curve.png")
    (line,) = drawn[0].axes[0].get_lines()
    assert line.get_marker() == "o"


@pytest.mark.parametrize(
    ("title", "shown"),
    [("Pay $_{ and $x", "Pay $_{ and $x"), ("人事 hr@3", "?? hr@3"), ("a\nb", "a b"), ("x" * 99, "x" * 89 + "…")],
)
def test_a_title_is_shown_as_it_is_on_one_line(tmp_path: Path, drawn: list[Figure], title: str, shown: str) -> None:
    draw_curve(Curve(FALLING, ()), title, tmp_path / "curve.png")
    assert drawn[0].axes[0].get_title("left") == shown


def test_a_picture_is_drawn_without_pyplot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert draw_curve(Curve(FALLING, ()), "hr@3", tmp_path / "curve.png")
