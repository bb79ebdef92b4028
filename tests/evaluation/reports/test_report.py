# ruff: noqa: RUF001 (the signs as the reader sees them)

import base64
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quintet.evaluation.reports.report import REGRESSIONS, report_page
from quintet.evaluation.results import BASE, EXPERT, LIVE, Evaluation, Preferences
from tests.evaluation.evaluations import (
    FAILED,
    HOSTILE,
    ITEMS,
    PASSED,
    comparison,
    evaluation,
    item,
    judged,
    label_scores,
)

needs_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")


class Page(HTMLParser):
    """A page's elements and the words between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.open.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.pieces.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(one: Evaluation) -> Page:
    return Page(report_page(one, []))


def hostile() -> Evaluation:
    return evaluation(
        items=(item(HOSTILE, HOSTILE, base=HOSTILE, live=HOSTILE, expert=HOSTILE),),
        scores={BASE: {HOSTILE: 1.0}, EXPERT: {HOSTILE: 2.0}},
        comparisons={BASE: comparison(**{HOSTILE: (0.1, 0.0, 0.2)})},
        labels={EXPERT: label_scores(0.5, HOSTILE)},
    )


def browse(page: str, folder: Path, fragment: str = "") -> str:
    (folder / "report.html").write_text(page, "utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    address = f"{(folder / 'report.html').as_uri()}{fragment}"
    done = subprocess.run(
        [*command, "--dump-dom", address], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    return done.stdout


def test_the_title_names_the_expert_its_method_and_its_base() -> None:
    assert "<title>hr@3: lora on nano, evaluated</title>" in report_page(evaluation(), [])


def test_every_question_reference_and_answer_is_shown() -> None:
    text = page_of(evaluation()).text
    for one in ITEMS:
        assert one.question in text
        assert one.reference in text
        assert all(answer.text in text for answer in one.answers.values())


def test_each_answer_shows_its_f1_and_whether_it_ended_its_turn() -> None:
    text = page_of(evaluation(items=ITEMS[:1])).text
    assert "base F1 0.00 3 tokens" in text
    assert "hr@2 F1 1.00 4 tokens" in text
    assert "hr@3 F1 0.67 2 tokens" in text
    assert "did not end its turn" not in text
    assert "did not end its turn" in page_of(evaluation(items=ITEMS[2:])).text


def test_an_empty_answer_is_said_to_be_one() -> None:
    assert "(nothing)" in page_of(evaluation(items=(item("Why?", "So.", base="So.", live="So.", expert=" "),))).text


def test_a_released_expert_has_passed_every_rule_by_its_numbers() -> None:
    text = Page(report_page(evaluation(), [PASSED])).text
    assert "May be released" in text
    assert f"Passed: {PASSED.said} better-than-base · found 0.412, limit 0" in text


def test_a_blocked_expert_names_the_rules_that_failed_first() -> None:
    text = Page(report_page(evaluation(), [PASSED, FAILED])).text
    assert "Blocked by better-than-live" in text
    assert f"Failed: {FAILED.said} better-than-live · found −0.0213, limit 0.01" in text
    assert text.index("Failed:") < text.index("Passed:")


def test_without_verdicts_nothing_is_said_of_a_release() -> None:
    text = page_of(evaluation()).text
    assert "May be released" not in text
    assert "Blocked" not in text


def test_metrics_have_names_and_the_precision_of_their_kind() -> None:
    values = {"f1": 0.8249, "bleu": 41.26, "perplexity": 3.14159, "tokens": 25.44}
    one = evaluation(live=False, scores={BASE: {**values, "perplexity": 1234.5}, EXPERT: values})
    text = page_of(one).text
    assert "Token F1 0.82 0.82" in text
    assert "BLEU 41.3 41.3" in text
    assert "Perplexity of the reference lower is better 1,234 3.14" in text
    assert "Answer length, tokens 25.4 25.4" in text


def test_a_metric_of_no_known_name_is_shown_by_its_own() -> None:
    one = evaluation(live=False, scores={BASE: {"kindness_score": 0.5}, EXPERT: {"kindness_score": 7.25}})
    assert "Kindness score 0.50 7.25" in page_of(one).text


@pytest.mark.parametrize(
    ("metric", "ends", "words"),
    [
        ("recall", (0.1, 0.05, 0.15), "+0.10 (0.05 to 0.15) ▲ better"),
        ("recall", (-0.1, -0.15, -0.05), "−0.10 (−0.15 to −0.05) ▼ worse"),
        ("recall", (0.001, -0.05, 0.05), "0.00 (−0.05 to 0.05) ≈ no clear difference"),
        ("perplexity", (-3.0, -4.0, -2.0), "−3.00 (−4.00 to −2.00) ▲ better"),
        ("perplexity", (3.0, 2.0, 4.0), "+3.00 (2.00 to 4.00) ▼ worse"),
        ("bleu", (5.25, 2.0, 9.0), "+5.2 (2.0 to 9.0) ▲ better"),
    ],
)
def test_a_difference_shows_its_interval_and_says_what_it_means(
    metric: str, ends: tuple[float, float, float], words: str
) -> None:
    scores = {BASE: {metric: 1.0}, EXPERT: {metric: 1.0}}
    one = evaluation(live=False, scores=scores, comparisons={BASE: comparison(**{metric: ends})})
    assert words in page_of(one).text


def test_a_longer_answer_is_neither_better_nor_worse() -> None:
    one = evaluation(live=False, scores={EXPERT: {"tokens": 9.0}}, comparisons={BASE: comparison(tokens=(2, 1, 3))})
    assert "Answer length, tokens – 9.0 +2.0 (1.0 to 3.0) How F1 is spread" in page_of(one).text


def test_the_interval_plot_has_a_point_and_a_whisker_per_metric_that_has_a_whole() -> None:
    made = comparison(bleu=(10.0, 5.0, 15.0), perplexity=(-3.0, -4.0, -2.0))
    page = page_of(evaluation(live=False, comparisons={BASE: made}))
    assert len(page.all("circle")) == 2


def test_an_interval_without_a_number_leaves_the_plot_whole() -> None:
    nan, inf = float("nan"), float("inf")
    one = evaluation(
        live=False,
        scores={BASE: {"perplexity": inf}, EXPERT: {"perplexity": 2.0}},
        comparisons={BASE: comparison(recall=(nan, nan, nan), perplexity=(-inf, -inf, -inf))},
    )
    page = page_of(one)
    assert len(page.all("circle")) == 1
    assert "Perplexity of the reference lower is better ∞ 2.00 −∞ (−∞ to −∞)" in page.text
    assert not [value for _, found in page.elements for value in found.values() if value in ("nan%", "inf%")]


def test_wins_ties_and_losses_are_counted_against_each_other() -> None:
    made = {BASE: comparison(60, 30, 10), LIVE: comparison(1, 2, 1)}
    text = page_of(evaluation(comparisons=made)).text
    assert "▲ 60 wins 60% = 30 ties 30% ▼ 10 losses 10%" in text
    assert "▲ 1 win 25% = 2 ties 50% ▼ 1 loss 25%" in text


def test_the_spread_of_f1_counts_every_answer_once() -> None:
    labels = [one["aria-label"] for one in page_of(evaluation()).all("svg") if one.get("role") == "img"]
    assert len(labels) == 3
    assert all(sum(map(int, re.findall(r"(\d+) from", label or ""))) == len(ITEMS) for label in labels)
    # hr@2 gives the reference twice: the last bin holds 1 itself.
    assert "2 from 0.9 to 1.0" in (labels[1] or "")


def test_each_item_carries_its_outcome_against_each_other() -> None:
    page = page_of(evaluation())
    found = {one["id"]: one["data-outcomes"] for one in page.all("article") if "id" in one}
    assert found == {"item-1": "win loss", "item-2": "win tie", "item-3": "loss loss"}


def test_what_got_worst_stands_first_and_leads_to_its_item() -> None:
    page = page_of(evaluation())
    assert [one["href"] for one in page.all("a")] == ["#item-3", "#item-1"]
    assert "▼ loss −0.67 against hr@2" in page.text


def test_only_so_many_regressions_are_repeated() -> None:
    many = tuple(item(f"Question {n}?", "So.", base="So.", expert="No.") for n in range(3 * REGRESSIONS))
    assert len(page_of(evaluation(items=many, live=False)).all("a")) == REGRESSIONS


def test_no_regressions_are_said_to_be_none() -> None:
    one = evaluation(items=(item("Why?", "So.", base="No.", expert="So."),), live=False)
    assert "None: on no question is the expert's F1 below base's." in page_of(one).text


def test_label_tasks_show_scores_of_each_class_and_the_confusion() -> None:
    text = page_of(evaluation(labels={BASE: label_scores(0.19), EXPERT: label_scores(0.94)})).text
    assert "base 0.19 0.37 0.28 hr@3 0.94 0.37 0.28" in text
    assert "leave 11 0.91 0.82 0.73 0.91 0.82 0.73" in text
    assert "Reference leave pay no label leave 9 1 1 pay 3 5 4" in text


def test_preferences_are_put_into_words() -> None:
    text = page_of(evaluation(preferences=Preferences(24, 0.875, 0.6931, 0.5, 0.75))).text
    assert "Of 24 held-out pairs" in text
    assert "88% (accuracy 0.88; guessing gives 0.50)" in text
    assert "+0.69 nats a pair" in text
    assert "gained 2 times as much" in text
    assert "in 0.50 of the pairs at the start, and is in 0.75 now" in text


def test_a_judges_verdicts_are_counted_against_each_other() -> None:
    made = {BASE: judged("win", "win", "unreadable"), LIVE: judged("loss", "tie", "inconsistent")}
    text = page_of(replace(evaluation(), judged=made)).text
    assert "What a judge says big compared both answers" in text
    assert "hr@3 against base ▲ 2 wins 67% = 0 ties 0% ▼ 0 losses 0% Of the ties, 0 inconsistent" in text
    assert "1 unreadable: no verdict" in text
    assert "hr@3 against hr@2 ▲ 0 wins 0% = 2 ties 67% ▼ 1 loss 33% Of the ties, 1 inconsistent" in text


def test_what_the_judge_was_asked_can_be_unfolded() -> None:
    one = replace(evaluation(), judged={key: judged("win", "tie", "loss", prompt="Be fair.") for key in (BASE, LIVE)})
    page = page_of(one)
    assert len(page.all("details")) == 1
    assert "What the judge was asked Be fair." in page.text


def test_each_item_carries_the_judges_verdict() -> None:
    text = page_of(replace(evaluation(), judged={LIVE: judged("win", "unreadable", "inconsistent")})).text
    assert "▲ judge: win against hr@2" in text
    assert "? judge: unreadable against hr@2" in text
    assert "? judge: inconsistent against hr@2" in text


def test_mean_similarities_stand_among_the_metrics_and_name_their_model() -> None:
    one = replace(evaluation(), similarity={BASE: (0.5, 0.25), EXPERT: (1.0, 0.9)}, similarity_model="embedder")
    text = page_of(one).text
    assert "Semantic similarity 0.375 – 0.950 – –" in text
    assert "embedded by embedder" in text


def test_without_a_judge_and_embeddings_nothing_is_said_of_them() -> None:
    text = page_of(evaluation()).text
    assert "judge" not in text
    assert "imilarity" not in text


def test_the_loss_curve_travels_inside_the_page() -> None:
    (image,) = Page(report_page(evaluation(), [], curve=b"\x89PNG")).all("img")
    assert image["src"] == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    assert not page_of(evaluation()).all("img")


def test_the_small_print_has_bleus_signature_and_the_identity() -> None:
    text = page_of(evaluation()).text
    assert "nrefs:1|case:mixed|tok:13a|version:2.5.1" in text
    assert "Identity of this evaluation: 0f1e2d" in text


def test_an_evaluation_without_items_still_makes_a_page() -> None:
    one = evaluation(items=(), scores={BASE: {}, EXPERT: {}}, live=False)
    assert "Held-out questions 0" in page_of(one).text


def test_hostile_text_stays_text() -> None:
    one = hostile()
    one = replace(one, judged={BASE: judged("win", prompt=HOSTILE)}, similarity_model=HOSTILE)
    verdict = type(PASSED)(HOSTILE, False, 0.0, 1.0, HOSTILE)
    html = report_page(one, [verdict], company=HOSTILE)
    page, plain = Page(html), page_of(evaluation())
    assert len(page.all("script")) == len(plain.all("script")) == 1
    assert not page.all("img")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    # The company, the rule twice and its words, a metric, a label three times, the item's five texts, the judge's
    # prompt and the embeddings' model.
    assert unescape(html).count(HOSTILE) == 15


def test_the_policy_of_the_page_lets_nothing_be_fetched() -> None:
    policies = [one["content"] for one in page_of(evaluation()).all("meta") if "http-equiv" in one]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none'; img-src data:;")


def test_the_page_names_no_address() -> None:
    one = replace(evaluation(), judged={BASE: judged("win", "tie", "loss")})
    html = report_page(one, [PASSED, FAILED], curve=b"png", company="Tiny")
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_half_a_surrogate_pair_can_be_written() -> None:
    one = evaluation(items=(item("\ud83d?", "So.", base="", live="", expert="So."),))
    assert b"So." in report_page(one, []).encode("utf-8")


@needs_browser
def test_in_a_browser_the_address_filters_the_items_and_hostile_text_does_not_run(tmp_path: Path) -> None:
    bad = item(HOSTILE, HOSTILE, base="", live="", expert=HOSTILE)
    dom = browse(report_page(evaluation(items=(*ITEMS, bad)), []), tmp_path, "#outcome=loss&against=1")
    assert "Showing 2 of 4</output>" in dom
    assert re.findall(r'<article id="item-(\d)" data-outcomes="[a-z ]+" hidden="">', dom) == ["2", "4"]
    assert "<title>hr@3: lora on nano, evaluated</title>" in dom
