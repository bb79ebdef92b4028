# ruff: noqa: RUF001 (the signs as the reader sees them)

import re

import pytest

from quintet.evaluation.reports.forgetting_page import forgetting_page, shade, show_ratio
from quintet.evaluation.reports.pages import render
from quintet.evaluation.results import ForgettingMatrix
from tests.evaluation.evaluations import HOSTILE

MATRIX = ForgettingMatrix(
    experts=("hr@1", "finance@2"),
    sets=("hr", "finance", "general"),
    base=(40.0, 50.0, 12.0),
    perplexity=((4.0, 51.0, 18.0), (44.0, 2.5, 12.5)),
)


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours by WCAG 2."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def palettes() -> list[dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", forgetting_page("", MATRIX), re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in blocks[:2]]


def test_every_cell_shows_its_perplexity_and_the_ratio_to_the_base() -> None:
    page = forgetting_page("Forgetting", MATRIX)
    for perplexity, ratio in (("4.00", "0.10"), ("51.0", "1.02"), ("18.0", "1.50"), ("44.0", "1.10"), ("2.50", "0.05")):
        assert f"<b>{perplexity}</b><small>×{ratio}</small>" in page


def test_the_base_is_a_row_of_its_own() -> None:
    page = forgetting_page("Forgetting", MATRIX)
    assert re.findall(r'<th scope="row">(.*?)</th>', page) == ["base", "hr@1", "finance@2"]
    assert page.count("<small>×1.00</small>") == len(MATRIX.sets)


def test_an_expert_on_its_own_departments_set_is_framed() -> None:
    page = forgetting_page("Forgetting", MATRIX)
    assert re.findall(r' own"><b>(.*?)</b>', page) == ["4.00", "2.50"]


def test_what_was_forgotten_most_is_said() -> None:
    assert "Most was forgotten by hr@1 on general: ×1.50." in forgetting_page("Forgetting", MATRIX)


def test_an_expert_that_forgot_nothing_is_said_to_be_no_worse() -> None:
    matrix = ForgettingMatrix(("hr@1",), ("hr", "general"), (40.0, 12.0), ((4.0, 12.2),))
    assert "No expert is clearly worse than the base anywhere." in forgetting_page("Forgetting", matrix)


@pytest.mark.parametrize(
    ("ratio", "name"),
    [
        (0.01, "better-4"),
        (0.5, "better-4"),
        (0.84, "better-1"),
        (0.95, "same"),
        (1.0, "same"),
        (1.05, "same"),
        (1.19, "worse-1"),
        (2**0.5, "worse-2"),
        (2.0, "worse-4"),
        (90.0, "worse-4"),
        (float("nan"), "none"),
        (float("inf"), "none"),
    ],
)
def test_the_colour_goes_by_the_logarithm_of_the_ratio(ratio: float, name: str) -> None:
    assert shade(ratio) == name


def test_twice_as_good_and_twice_as_bad_are_equally_strong() -> None:
    assert all(shade(2 ** (n / 4))[-2:] == shade(2 ** (-n / 4))[-2:] for n in range(1, 9))


def test_a_very_small_ratio_keeps_its_digits() -> None:
    assert show_ratio(0.0021) == "×0.0021"
    assert show_ratio(float("inf")) == "n/a"


def test_numbers_are_legible_on_every_colour_by_day_and_by_night() -> None:
    assert len(palettes()) == 2
    for palette in palettes():
        for side in ("better", "worse"):
            for step, ink in ((1, "ink"), (2, "ink"), (3, "on-3"), (4, "on-4")):
                assert contrast(palette[f"{side}-{step}"], palette[ink]) >= 4.5
        for ink in ("ink", "dim", "better", "worse"):
            assert min(contrast(palette[ink], palette[ground]) for ground in ("page", "raised")) >= 4.5


def test_names_stay_text_and_nothing_is_fetched() -> None:
    matrix = ForgettingMatrix((HOSTILE,), (HOSTILE,), (40.0,), ((4.0,),))
    page = forgetting_page(HOSTILE, matrix, company=HOSTILE)
    assert "<script" not in page
    assert "<img" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_row_of_another_length_than_the_sets_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        forgetting_page("Forgetting", ForgettingMatrix(("hr@1",), ("hr", "general"), (40.0, 12.0), ((4.0,),)))


def test_a_page_that_lacks_a_value_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(Exception, match="'title' is undefined"):
        render("forgetting.html.jinja")
