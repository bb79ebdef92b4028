"""The parts of nano's recipe that decide what it reads and how fast it learns."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tools.pretrain_nano.config import NanoConfig, Phase
from tools.pretrain_nano.pretrain import rate, windows
from tools.pretrain_nano.recall import Thesaurus, ask_for, key_words, make_recall

SENTENCE = "Request annual leave from your manager before the holiday starts."


def test_the_rate_follows_straight_lines_between_its_corners() -> None:
    phase = Phase(100, 8, (("text", 1),), ((0, 0), (0.1, 1), (0.5, 1), (1, 0)))
    assert [rate(step, phase) for step in (4, 9, 49, 74, 99)] == pytest.approx([0.5, 1, 1, 0.5, 0])


def test_a_phase_reads_on_where_the_one_before_it_stopped(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.arange(64, dtype=np.uint16))
    np.save(tmp_path / "lessons.npy", np.arange(100, 164, dtype=np.uint16))
    flat = ((0.0, 1.0), (1.0, 1.0))
    phases = (Phase(2, 4, (("text", 2),), flat), Phase(1, 8, (("text", 1), ("lessons", 1)), flat))
    config = replace(NanoConfig(), work=tmp_path, phases=phases)
    first = [batch.tolist() for batch in windows(config, 0)]
    assert first == [[[0, 1, 2, 3], [4, 5, 6, 7]], [[8, 9, 10, 11], [12, 13, 14, 15]]]
    (second,) = windows(config, 1)
    assert second.tolist() == [list(range(16, 24)), list(range(100, 108))]


def test_a_question_is_made_of_the_sentences_words_or_words_for_them() -> None:
    thesaurus, keys = Thesaurus(), set(key_words(SENTENCE))
    known = keys | {thesaurus.other(key, random.Random(seed)) for key in keys for seed in range(40)}
    for seed in range(30):
        question = ask_for(SENTENCE, thesaurus, random.Random(seed))
        assert len(known & set(key_words(question))) >= 1, question


def test_words_that_say_nothing_are_no_keys() -> None:
    assert key_words(SENTENCE) == ["request", "annual", "leave", "manager", "holiday", "starts"]


def test_the_same_seed_makes_the_same_lessons() -> None:
    documents = [f"The {word} budget report must be approved by every manager and customer." for word in "abcdefgh"]
    once, again = (list(make_recall(documents, 30, 2, seed=4)) for _ in range(2))
    assert once == again
    assert len(once) == 30
