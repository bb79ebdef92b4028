"""The teacher: a model behind an OpenAI-compatible endpoint that drafts questions and checks answers.

Knows the two prompts and how to read what comes back; knows nothing of files or of HTTP.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quintet.clients.openai import Endpoint, without_thoughts
from quintet.config.endpoint import EndpointSettings
from quintet.errors import UnusableAnswerError

LONGEST_ANSWER = 200_000

DRAFT_SYSTEM = "You write questions and answers from the documents of a company, for its colleagues to learn from."
DRAFT_PROMPT = """\
Below is a passage of a company's document. Write up to {questions} questions that a colleague might ask and that this \
passage answers in full, each with its answer.

- Ask as somebody would who has not seen the passage: never mention "the passage", "the text" or "the document", and \
name the subject rather than saying "it" or "this".
- Answer in one to three full sentences, from this passage alone. Keep every number, name and condition exactly.
- No two questions may ask the same. Write fewer when the passage holds less; write [] when it holds nothing to ask.
- Write in the language of the passage.

Reply with a JSON list and nothing else: [{{"question": "...", "answer": "..."}}]

Source: {source}
<passage>
{passage}
</passage>"""

CHECK_SYSTEM = "You check answers against the text that they must rest on. You reply with one word."
CHECK_PROMPT = """\
Source: {source}
<passage>
{passage}
</passage>

Question: {question}
Answer: {answer}

Does the passage, with the name of its source, say everything that the answer claims, and does the answer reply to the \
question? A number, name or condition that the passage does not give means no. Reply with one word: yes or no."""

_YES = re.compile(r"\W*yes\b", re.IGNORECASE)


@dataclass(frozen=True)
class TeacherSettings(EndpointSettings):
    """Whom to ask, as of any endpoint; what the teacher said is kept, so that a stopped job goes on."""

    key_name: str = "QUINTET_TEACHER_KEY"
    role: str = "teacher"
    go_on: str = "run the same command again to go on from here"


@dataclass(frozen=True)
class DraftedPair:
    """A question and its answer, as the teacher wrote them."""

    question: str
    answer: str


class Teacher(Endpoint):
    """A client of one endpoint; `async with` closes it."""

    async def draft(self, source: str, passage: str, questions: int) -> list[DraftedPair]:
        """Return at most so many questions with answers; raise UnusableAnswerError when there are none to be read."""
        prompt = DRAFT_PROMPT.format(source=source, passage=passage, questions=questions)
        return parse_drafts(await self.ask(DRAFT_SYSTEM, prompt))[:questions]

    async def supports(self, source: str, passage: str, draft: DraftedPair) -> bool:
        """Ask whether the passage supports the answer; anything but a yes is a no."""
        prompt = CHECK_PROMPT.format(source=source, passage=passage, question=draft.question, answer=draft.answer)
        return _YES.match(without_thoughts(await self.ask(CHECK_SYSTEM, prompt))) is not None


def parse_drafts(content: str) -> list[DraftedPair]:
    """Return the questions and answers of a reply, which may wrap its JSON in thoughts, prose or a fence.

    Raises UnusableAnswerError when the reply holds neither a pair nor an empty list.
    """
    text = without_thoughts(content)[:LONGEST_ANSWER]
    values = list(_json_values(text))
    drafts = [draft for value in values for draft in _drafts_in(value)]
    if not drafts and not any(value == [] or (isinstance(value, dict) and [] in value.values()) for value in values):
        raise UnusableAnswerError(
            f"expected a JSON list of questions and answers from the teacher, found {text[:80]!r}"
        )
    return drafts


def _json_values(text: str) -> Iterator[Any]:
    """Yield every list and object that stands in the text, the outermost whole ones."""
    decoder, place = json.JSONDecoder(), 0
    while (start := re.compile(r"[\[{]").search(text, place)) is not None:
        try:
            value, place = decoder.raw_decode(text, start.start())
        except RecursionError:
            return
        except ValueError:
            place = start.end()
        else:
            yield value


def _drafts_in(value: Any) -> Iterator[DraftedPair]:
    if isinstance(value, list):
        for item in value:
            yield from _drafts_in(item) if isinstance(item, dict) else ()
    elif isinstance(value, dict):
        fields = {str(name).strip().lower(): found for name, found in value.items()}
        question, answer = _usable(fields.get("question")), _usable(fields.get("answer"))
        if question and answer:
            yield DraftedPair(question, answer)
        else:
            for inner in value.values():
                yield from _drafts_in(inner) if isinstance(inner, list) else ()


def _usable(value: Any) -> str | None:
    """Return a text's content; None if it is no text, or holds half a character."""
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        return None
    return value.strip() or None
