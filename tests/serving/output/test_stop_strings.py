"""Stop strings cut at the same place wherever the text was broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintet.serving.output.stop_strings import StopStrings


def run(stops: list[str], pieces: list[str]) -> str:
    cut = StopStrings(stops)
    out = ""
    for piece in pieces:
        out += cut.push(piece)
        if cut.found:
            return out
    return out + cut.finish()


@pytest.mark.parametrize("pieces", [["one END two"], ["one E", "ND two"], ["one ", "E", "N", "D", " two"]])
def test_the_stop_text_and_what_follows_are_left_out(pieces: list[str]) -> None:
    assert run(["END"], pieces) == "one "


def test_text_that_only_began_like_a_stop_comes_out_in_the_end() -> None:
    assert run(["END"], ["one E", "N"]) == "one EN"


def test_a_false_start_is_passed_on_as_soon_as_it_is_one() -> None:
    cut = StopStrings(["END"])
    assert (cut.push("a EN"), cut.push("x")) == ("a ", "ENx")


def test_a_stop_that_begins_inside_a_false_start_is_found() -> None:
    assert run(["aab"], ["a", "a", "a", "b", "c"]) == "a"


def test_of_two_stops_that_end_together_the_longer_one_counts() -> None:
    assert run(["c", "abc"], ["xabc"]) == "x"


def test_without_stops_nothing_is_held_back() -> None:
    assert StopStrings([]).push("anything") == "anything"


@given(
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=4),
    pieces=st.lists(st.text("abc", max_size=5), max_size=6),
)
def test_the_cut_does_not_depend_on_where_the_text_was_broken(stops: list[str], pieces: list[str]) -> None:
    whole = "".join(pieces)
    ends = [end for end in range(len(whole) + 1) if any(whole[:end].endswith(stop) for stop in stops)]
    expected = whole
    if ends:
        first = whole[: ends[0]]
        expected = first[: len(first) - max(len(stop) for stop in stops if first.endswith(stop))]
    assert run(stops, pieces) == expected
