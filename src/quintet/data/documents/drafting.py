"""The job: passages in, rows out. What is done is kept beside the output, so that a stopped job goes on."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quintet.clients.openai import work_through
from quintet.data.documents import teacher as prompts
from quintet.data.documents.passages import Passage, cut
from quintet.data.documents.reading import Library
from quintet.data.documents.teacher import DraftedPair, Teacher, TeacherSettings
from quintet.data.near_duplicates import NearDuplicates
from quintet.data.writing import refuse_to_overwrite, write_rows
from quintet.errors import DataError, EndpointError, UnusableAnswerError

IN_FLIGHT = 4
FAILURES_IN_A_ROW = 5

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Checked:
    """A draft, and whether its passage supports it."""

    question: str
    answer: str
    supported: bool


@dataclass
class Outcome:
    """What became of the passages; `failed` holds each passage that gave nothing, and why."""

    passages: int
    drafted: int = 0
    unsupported: int = 0
    near_duplicates: int = 0
    rows: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def cut_library(library: Library, max_words: int) -> list[Passage]:
    """Return the passages of all documents; raise DataError naming each document that has none."""
    cuts = {document.name: cut(document, max_words) for document in library.documents}
    empty = [
        f"{name}: holds headings and no text; fill it in or remove it" for name, found in cuts.items() if not found
    ]
    if empty:
        raise DataError(empty)
    return [passage for found in cuts.values() for passage in found]


def passages_file(out: Path) -> Path:
    """Return where the passages go when there is no teacher: `hr.passages.jsonl` beside `hr.jsonl`."""
    return out.with_suffix(".passages.jsonl")


def state_file(out: Path) -> Path:
    """Return where the teacher's answers are kept: `hr.drafts.jsonl` beside `hr.jsonl`."""
    return out.with_suffix(".drafts.jsonl")


def write_fill_in(passages: Sequence[Passage], out: Path) -> None:
    """Write the passages, and a row for each whose question and answer are to be filled in by hand."""
    refuse_to_overwrite(out, passages_file(out))
    write_rows(passages_file(out), ({"source": p.source, "passage": p.text} for p in passages))
    write_rows(out, (_row(passage, "", "") for passage in passages))


def draft(
    passages: Sequence[Passage],
    out: Path,
    settings: TeacherSettings,
    questions: int,
    progress: Progress = lambda done, total: None,
) -> Outcome:
    """Ask the teacher about every passage that it was not asked about before, and write the rows that hold.

    Raises EndpointError when the teacher cannot be used; what it said so far is kept. Raises DataError when no
    row is left, and then writes none.
    """
    refuse_to_overwrite(out)
    keys = {passage.id: _key(passage, settings.chat_url, settings.model, questions) for passage in passages}
    state = _Progress(state_file(out))
    job = _Job(state, keys, questions, progress)
    asyncio.run(job.run(passages, settings))
    outcome = Outcome(len(passages), failed=job.failed)
    rows = list(_rows(passages, {passage.id: state.done.get(keys[passage.id], []) for passage in passages}, outcome))
    if not rows:
        counts = (
            f"no row is left of {outcome.passages} passages: {outcome.drafted} drafted, "
            f"{outcome.unsupported} unsupported, {len(outcome.failed)} passages failed"
        )
        first = next(iter(outcome.failed.items()), None)
        raise DataError(
            [counts + ("; try another teacher" if first is None else f", the first {first[0]}: {first[1]}")]
        )
    write_rows(out, rows)
    outcome.rows = len(rows)
    return outcome


def _key(passage: Passage, *settings: object) -> str:
    """Return the digest of all that the teacher's answer depends on."""
    asked = (prompts.DRAFT_SYSTEM, prompts.DRAFT_PROMPT, prompts.CHECK_SYSTEM, prompts.CHECK_PROMPT)
    return hashlib.sha256(json.dumps([passage.source, passage.text, asked, settings]).encode()).hexdigest()


class _Progress:
    """The teacher's answers by key, in a file that is only ever appended to, a line an answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.done: dict[str, list[Checked]] = {}
        if path.exists():
            with self._path.open("r+b") as file:
                whole = 0
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        break  # the job was stopped in the middle of this line
                    try:
                        record = json.loads(line)
                        self.done[record["key"]] = [Checked(**pair) for pair in record["drafts"]]
                    except (ValueError, TypeError, LookupError):
                        raise DataError(
                            [f"{self._path}:{number}: is no record of this job; move the file away"]
                        ) from None
                    whole += len(line)
                file.truncate(whole)

    def add(self, key: str, drafts: list[Checked]) -> None:
        """Keep an answer; a job that is killed after this has it."""
        record = {"key": key, "drafts": [asdict(draft) for draft in drafts]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
        self.done[key] = drafts


class _Job:
    """One pass over the passages, a few in flight at a time."""

    def __init__(self, state: _Progress, keys: dict[str, str], questions: int, progress: Progress) -> None:
        self.failed: dict[str, str] = {}
        self._state, self._keys, self._questions, self._progress = state, keys, questions, progress
        self._done = self._total = self._failures_in_a_row = 0

    async def run(self, passages: Sequence[Passage], settings: TeacherSettings) -> None:
        """Ask about each passage that has no answer yet."""
        waiting = [passage for passage in passages if self._keys[passage.id] not in self._state.done]
        self._total, self._done = len(passages), len(passages) - len(waiting)
        self._progress(self._done, self._total)
        async with Teacher(settings) as teacher:
            await work_through(waiting, lambda passage: self._work(teacher, passage), IN_FLIGHT)

    async def _work(self, teacher: Teacher, passage: Passage) -> None:
        try:
            drafts = await self._ask(teacher, passage)
        except UnusableAnswerError as error:
            self.failed[passage.id] = str(error)
            self._failures_in_a_row += 1
            if self._failures_in_a_row == FAILURES_IN_A_ROW:
                raise EndpointError(
                    f"{FAILURES_IN_A_ROW} passages in a row came to nothing, the last one {passage.id}: {error}; "
                    "try another teacher, or go on by the same command"
                ) from error
        else:
            self._state.add(self._keys[passage.id], drafts)
            self._failures_in_a_row = 0
        self._done += 1
        self._progress(self._done, self._total)

    async def _ask(self, teacher: Teacher, passage: Passage) -> list[Checked]:
        drafts: list[DraftedPair] = await teacher.draft(passage.source, passage.text, self._questions)
        return [
            Checked(draft.question, draft.answer, await teacher.supports(passage.source, passage.text, draft))
            for draft in drafts
        ]


def _rows(passages: Iterable[Passage], answers: dict[str, list[Checked]], outcome: Outcome) -> Iterator[dict[str, str]]:
    """Yield the rows that hold, in the order of the passages, and count the others."""
    seen = NearDuplicates()
    for passage in passages:
        for place, found in enumerate(answers[passage.id]):
            outcome.drafted += 1
            if not found.supported:
                outcome.unsupported += 1
            elif seen.add((passage.id, place), found.question) is not None:
                outcome.near_duplicates += 1
            else:
                yield _row(passage, found.question, found.answer)


def _row(passage: Passage, question: str, answer: str) -> dict[str, str]:
    return {"question": question, "answer": answer, "group": passage.id, "source": passage.source,
            "passage": passage.text}  # fmt: skip
