"""Rated answers → a file for a reviewer → what to train on. Nothing that nobody has accepted becomes a row.

A thumb up offers the answer as it was given, a better answer offers that one; a thumb down alone offers none, and the
reviewer may write one. Where the accepted answer is not the one that was given, the two are a preference. Knows nothing
of how feedback is kept.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quintet.config import FormatConfig
from quintet.data.examples import Refusal
from quintet.data.formats import read_rows
from quintet.data.shapes import SHAPES, RowError, to_example
from quintet.errors import DataError
from quintet.messages import Message

if TYPE_CHECKING:
    from quintet.registry.feedback import Rated

_MESSAGES = next(shape for shape in SHAPES if shape.name == "messages")
_NO_SETTINGS = FormatConfig()


@dataclass
class Reviewed:
    """What a reviewer accepted, as rows of training and of preference data, and how many they did not."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0


def review_row(rated: "Rated") -> dict[str, Any]:
    """Return the row that a reviewer reads: `accepted` is theirs to set to true, `answer` theirs to change."""
    offered = rated.opinion.better_answer or (rated.answer if rated.opinion.good else "")
    return {
        "accepted": None,
        "prompt": [message.as_dict() for message in rated.prompt],
        "answer": offered,
        "given": rated.answer,
        "rating": "up" if rated.opinion.good else "down",
        "comment": rated.opinion.comment,
        "model": rated.answered.model,
        "request_id": rated.answered.request_id,
    }


def read_review(file: Path) -> Reviewed:
    """Return what was accepted in a review file; raise DataError naming every line that cannot be used."""
    reviewed, problems = Reviewed(), []
    for row in read_rows(file):
        if isinstance(row, Refusal):
            problems.append(str(row))
            continue
        try:
            accepted = row.values.get("accepted")
            if accepted is not None and not isinstance(accepted, bool):
                raise RowError(f"field 'accepted': expected true, false or null, found {accepted!r}")
            if not accepted:
                reviewed.left_out += 1
            else:
                prompt, answer, given = (row.values.get(name) for name in ("prompt", "answer", "given"))
                if not isinstance(answer, str) or not answer.strip():
                    raise RowError("field 'answer' is empty; write the answer to learn, or set 'accepted' to false")
                if not isinstance(prompt, list):
                    raise RowError("field 'prompt': expected the turns before the answer, as they were written here")
                turns = {"messages": [*prompt, Message("assistant", answer).as_dict()]}
                to_example(turns, row.place, _MESSAGES, _NO_SETTINGS)  # refuses what the training would
                reviewed.rows.append(turns)
                if isinstance(given, str) and given.strip() and given != answer:
                    reviewed.pairs.append({"prompt": prompt, "chosen": answer, "rejected": given})
        except RowError as error:
            problems.append(f"{row.place}: {error}")
    if problems:
        raise DataError(problems)
    if not reviewed.rows:
        raise DataError([f"{file}: no row has 'accepted': true; read them, and accept those to train on"])
    return reviewed


def explain_nothing(department: str, keeps: bool, counts: dict[str, tuple[int, int]]) -> str:
    """Return why there is nothing to review, and what would change that."""
    told = ", ".join(f"{name} {up} up and {down} down" for name, (up, down) in counts.items()) or "none yet"
    if not keeps:
        return (
            f"departments.{department}.keep_requests is not set, so that feedback was counted and no answer kept: "
            f"{told}; to make rows of what comes from now on, set it, such as to 30d"
        )
    return f"no answer of {department} that is kept has feedback; what was counted: {told}"
