import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintet.data.documents.passages import Passage, count_words, cut
from quintet.data.documents.reading import Document


def passages(text: str, max_words: int = 100) -> list[Passage]:
    return cut(Document("a.md", text), max_words)


def texts(text: str, max_words: int = 100) -> list[str]:
    return [passage.text for passage in passages(text, max_words)]


def test_a_passage_knows_its_file_headings_and_number() -> None:
    text = "Hello.\n\n# Leave\n\n## Annual\n\nTwenty days.\n\n## Sick\nTen days.\n\n# Pay\nMonthly."
    assert [(p.id, p.source, p.text) for p in passages(text)] == [
        ("a.md#1", "a.md", "Hello."),
        ("a.md#2", "a.md > Leave > Annual", "Twenty days."),
        ("a.md#3", "a.md > Leave > Sick", "Ten days."),
        ("a.md#4", "a.md > Pay", "Monthly."),
    ]


@pytest.mark.parametrize("heading", ["# Leave", "# Leave #", "Leave\n=====", "  # Leave"])
def test_headings_may_be_written_in_any_way_of_markdown(heading: str) -> None:
    assert [p.heading for p in passages(f"{heading}\n\nTwenty days.")] == [("Leave",)]


@pytest.mark.parametrize("text", ["#hashtag is no heading", "a\n\n---\n\nb", "```\n# a comment\n```", "7 #1 wins"])
def test_what_only_looks_like_a_heading_is_none(text: str) -> None:
    assert [p.heading for p in passages(text)] == [()]


def test_paragraphs_are_packed_up_to_the_longest_passage() -> None:
    assert texts("one two\n\nthree four\n\nfive six", 4) == ["one two\n\nthree four", "five six"]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    assert texts("One two. Three four!\nFive six? Seven.", 4) == ["One two. Three four!", "Five six? Seven."]


def test_a_long_sentence_is_cut_between_words() -> None:
    assert texts("a b c d e f g", 3) == ["a b c", "d e f", "g"]


def test_a_long_list_is_cut_between_items() -> None:
    assert texts("- one\n  more\n- two\n- three", 4) == ["- one\n  more", "- two\n- three"]


def test_a_table_that_fits_is_kept_whole() -> None:
    table = "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |"
    assert texts(f"one two three four\n{table}\nfive", 8) == ["one two three four", table, "five"]


def test_a_long_table_is_cut_between_rows_and_each_part_has_the_header() -> None:
    header = "| a | b |\n| --- | --- |\n"
    rows = [f"| {n} | {n} |" for n in range(4)]
    assert texts(header + "\n".join(rows), 8) == [header + "\n".join(rows[:2]), header + "\n".join(rows[2:])]


def test_a_row_that_never_fits_is_kept_whole() -> None:
    table = "| a | b |\n| --- | --- |\n| one two three four | five |"
    assert texts(table, 3) == [table]


def test_a_long_block_of_code_is_cut_between_lines_and_stays_code() -> None:
    assert texts("```sh\none\ntwo\nthree\nfour", 4) == ["```sh\none\ntwo\n```", "```sh\nthree\nfour\n```"]


def test_writing_without_spaces_is_cut_too() -> None:
    assert texts("有給休暇は二十日です。繰り越しは三月まで。", 11) == ["有給休暇は二十日です。", "繰り越しは三月まで。"]
    assert [count_words(text) for text in texts("x" * 300, 3)] == [3, 3, 2]


def test_headings_alone_make_no_passage() -> None:
    assert passages("# Leave\n\n## Annual\n") == []


PIECES = ["a", "End.", "休", "\n", "\n\n", "\n- a", "\n1. a", "\n```\n", "|", "\n| a | 休 |\n| --- | --- |\n| a | a |"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40), st.integers(5, 30))
def test_nothing_of_a_text_is_lost(pieces: list[str], max_words: int) -> None:
    text = " ".join(pieces)
    found = " ".join(texts(text, max_words))
    assert all(found.count(letter) >= text.count(letter) for letter in "a休E1")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["word", "End.", "休", "x" * 90, "\n", "\n\n", "- item"]), max_size=60), st.integers(5, 30)
)
def test_no_passage_of_prose_is_longer_than_the_longest(parts: list[str], max_words: int) -> None:
    assert all(count_words(text) <= max_words for text in texts(" ".join(parts), max_words))
