"""The losses of a run, drawn as one picture. Knows nothing of what was trained or how."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quintet.files import replacing
from quintet.registry.losses import Curve, Series, finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAINING, HELD_OUT, QUIET = "#0072B2", "#D55E00", "#555555"
"""Blue and vermilion, told apart by the colour-blind (Okabe and Ito 2008)."""


def draw_curve(curve: Curve, title: str, path: Path) -> bool:
    """Write a PNG of 900 by 500 pixels; write nothing and return False when there is no loss to draw."""
    if not finite(curve.training + curve.held_out):
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    margins = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)
    figure = Figure(figsize=(9, 5), dpi=100, layout=margins)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    series = finite(curve.training)
    if series:
        steps, values = zip(*series, strict=True)
        # A line through one point is nothing; beyond a few dozen, dots hide the line.
        mark = "o" if len(series) <= 30 else None
        axes.plot(
            steps, values, color=TRAINING, alpha=0.4, linewidth=1, marker=mark, markersize=3, label="training loss"
        )
        if len(series) >= 3:
            # A longer span is smoother, and lags further behind a loss that falls.
            averages = smooth(values, span=max(2, len(values) / 20))
            axes.plot(steps, averages, color=TRAINING, linewidth=2.5, label="training loss, moving average")
    _draw_held_out(axes, finite(curve.held_out), curve.best)
    # One line of a title's length; "?" for letters that the font lacks, of which matplotlib would warn.
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    line = " ".join(title.split())
    shown = line if len(line) <= 90 else line[:89] + "…"
    _label(axes, curve, "".join(letter if ord(letter) in known else "?" for letter in shown))
    with replacing(path) as staged, staged.open("wb") as stream:
        canvas.print_png(stream)  # type: ignore[no-untyped-call]
    return True


def smooth(values: Sequence[float], span: float) -> list[float]:
    """Return the exponential moving average of weight 2 / (span + 1).

    Divided by the weights given so far, so that the start is not drawn to zero (Kingma and Ba 2015, section 3).
    """
    kept = 1 - 2 / (span + 1)
    total = weights = 0.0
    averages = []
    for value in values:
        total = kept * total + (1 - kept) * value
        weights = kept * weights + (1 - kept)
        averages.append(total / weights)
    return averages


def _draw_held_out(axes: "Axes", series: Series, best: tuple[int, float] | None) -> None:
    if best is None:
        return
    steps, values = zip(*series, strict=True)
    axes.plot(steps, values, "o", color=HELD_OUT, markersize=6, label="held-out loss")
    axes.axvline(best[0], color=HELD_OUT, linewidth=1, linestyle=":", zorder=1)
    axes.plot(
        *best,
        "o",
        color=HELD_OUT,
        fillstyle="none",
        markersize=13,
        markeredgewidth=2,
        label=f"best held-out loss: {best[1]:.4g} at step {best[0]:,}",
    )


def _label(axes: "Axes", curve: Curve, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_title(title, loc="left", fontsize=13, pad=12, parse_math=False)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_xlim(0, 1.02 * max(1, *(step for step, _ in curve.training + curve.held_out)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    values = [value for _, value in finite(curve.training + curve.held_out)]
    if min(values) > 0 and max(values) > 100 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    axes.grid(color=QUIET, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
