"""The teacher: a model behind an OpenAI-compatible endpoint that drafts questions and checks answers.

Knows HTTP and the two prompts; knows nothing of files, and sends nothing but to the URL it was given.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from quintet.errors import ConfigError, QuintetError

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 5
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 120.0
TIMEOUT_S = 180.0
ANSWER_TOKENS = 4096
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

_GO_ON = "run the same command again to go on from here"
_THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL | re.IGNORECASE)
_YES = re.compile(r"\W*yes\b", re.IGNORECASE)


class TeacherError(QuintetError):
    """The teacher cannot be used."""

    code = "teacher_error"


class UnusableAnswerError(TeacherError):
    """The teacher cannot be used for one passage; others may do."""


@dataclass(frozen=True)
class TeacherSettings:
    """Whom to ask: the URL as given, the model's name, the key, and the name of the variable that held it.

    Raises ConfigError when the URL is no address, or the key cannot be sent.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    key_name: str = "QUINTET_TEACHER_KEY"
    endpoint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", _endpoint(self.url, self.key_name))
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError(f"the key in ${self.key_name} holds characters that no key has; copy it anew")


def _endpoint(given: str, key_name: str) -> str:
    """Return the address to ask: the one given, or chat completions below it."""
    import httpx

    expected = "expected one such as https://host/v1"
    try:
        url = httpx.URL(given.strip())
    except httpx.InvalidURL as error:
        raise ConfigError(f"the teacher's URL {given!r} is none: {error}; {expected}") from None
    if url.userinfo:
        raise ConfigError(f"the teacher's URL holds a password; put it in ${key_name} and name the URL bare")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"the teacher's URL {given!r} is none; {expected}")
    path = url.path.rstrip("/") or "/v1"
    return str(url.copy_with(path=path if path.endswith("/chat/completions") else path + "/chat/completions"))


@dataclass(frozen=True)
class Draft:
    """A question and its answer, as the teacher wrote them."""

    question: str
    answer: str


class Teacher:
    """A client of one endpoint; `async with` closes it."""

    def __init__(self, settings: TeacherSettings, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        import httpx

        self.endpoint = settings.endpoint
        self._settings = settings
        self._sleep = sleep
        self._optional: dict[str, Any] = {"temperature": 0, "max_tokens": ANSWER_TOKENS}
        headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
        self._http = httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(TIMEOUT_S, connect=10))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def draft(self, source: str, passage: str, questions: int) -> list[Draft]:
        """Return at most so many questions with answers; raise UnusableAnswerError when there are none to be read."""
        prompt = DRAFT_PROMPT.format(source=source, passage=passage, questions=questions)
        return parse_drafts(await self._ask(DRAFT_SYSTEM, prompt))[:questions]

    async def supports(self, source: str, passage: str, draft: Draft) -> bool:
        """Ask whether the passage supports the answer; anything but a yes is a no."""
        prompt = CHECK_PROMPT.format(source=source, passage=passage, question=draft.question, answer=draft.answer)
        return _YES.match(_THOUGHTS.sub("", await self._ask(CHECK_SYSTEM, prompt))) is not None

    async def _ask(self, system: str, prompt: str) -> str:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        while True:
            asked = dict(self._optional)
            response = await self._post({"model": self._settings.model, "messages": messages, **asked})
            refused = _refused_setting(response, asked)
            if refused is None:
                break
            self._optional.pop(refused, None)  # several passages may find out at once
        self._raise_for_status(response)
        return self._content(response)

    async def _post(self, body: dict[str, Any]) -> "httpx.Response":
        """Send until there is an answer that waiting would not change."""
        import httpx

        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = await self._http.post(self.endpoint, json=body)
            except httpx.RequestError as error:
                if attempt == ATTEMPTS:
                    raise self._unreachable(error) from None
                wait = _back_off(attempt)
            else:
                if response.status_code not in (408, 429) and response.status_code < 500:
                    return response
                if attempt == ATTEMPTS:
                    raise TeacherError(f"{self._said(response)}, {ATTEMPTS} times in a row; {_GO_ON}")
                wait = self._wait(response, attempt)
            await self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, error: "httpx.RequestError") -> TeacherError:
        import httpx

        shown = str(error) or type(error).__name__
        if isinstance(error, httpx.ReadTimeout):
            return UnusableAnswerError(f"{self.endpoint} took longer than {TIMEOUT_S:.0f} s, {ATTEMPTS} times in a row")
        return TeacherError(f"{self.endpoint} gave no answer: {shown}; see that it runs, then {_GO_ON}")

    def _wait(self, response: "httpx.Response", attempt: int) -> float:
        asked = _retry_after(response.headers.get("retry-after"))
        if asked is not None and asked > LONGEST_WAIT_S:
            raise TeacherError(f"{self._said(response)} and asks to wait {asked:.0f} s; {_GO_ON}")
        return _back_off(attempt) if asked is None else asked

    def _raise_for_status(self, response: "httpx.Response") -> None:
        status, said, settings = response.status_code, self._said(response), self._settings
        if status == 200:
            return
        if status in (401, 403):
            found = "the key in" if settings.key else "no key; put one in"
            raise TeacherError(f"{said}; it was sent {found} ${settings.key_name}")
        if status == 404:
            raise TeacherError(f"{said}; see that the URL ends with /v1 and that it has a model {settings.model!r}")
        if response.is_redirect:
            raise TeacherError(f"{said} and points to {response.headers.get('location')!r}; name that URL")
        if status in (400, 413, 422):
            raise UnusableAnswerError(said)
        raise TeacherError(f"{said}; expected 200")

    def _said(self, response: "httpx.Response") -> str:
        message = _error_message(response)
        if self._settings.key:
            message = message.replace(self._settings.key, "(the key)")
        return f"{self.endpoint} answered {response.status_code}{': ' + message if message else ''}"

    def _content(self, response: "httpx.Response") -> str:
        try:
            content = response.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            found = " ".join(response.text.split())[:80]
            raise TeacherError(
                f"{self.endpoint} answered no chat completion: expected JSON with choices, found {found!r}; "
                "see that the URL is an OpenAI-compatible one and ends with /v1"
            ) from None
        if not isinstance(content, str) or not content.strip():
            raise UnusableAnswerError("the teacher's answer is empty")
        return content


def _back_off(attempt: int) -> float:
    return float(FIRST_WAIT_S * 2 ** (attempt - 1))


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or a date."""
    if value is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _refused_setting(response: "httpx.Response", sent: dict[str, Any]) -> str | None:
    """Return the setting that this model does not take; some refuse a temperature, or a number of tokens."""
    if response.status_code not in (400, 422):
        return None
    return next((name for name in sent if name in _error_message(response)), None)


def _error_message(response: "httpx.Response") -> str:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = response.text
    if isinstance(body, dict):
        body = body.get("error", body)
    if isinstance(body, dict):
        body = body.get("message", body)
    return " ".join(str(body).split())[:300]


def parse_drafts(content: str) -> list[Draft]:
    """Return the questions and answers of a reply, which may wrap its JSON in thoughts, prose or a fence.

    Raises UnusableAnswerError when the reply holds neither a pair nor an empty list.
    """
    text = _THOUGHTS.sub("", content)[:LONGEST_ANSWER]
    values = list(_json_values(text))
    drafts = [draft for value in values for draft in _drafts_in(value)]
    if not drafts and not any(_is_empty(value) for value in values):
        raise UnusableAnswerError(
            f"expected a JSON list of questions and answers from the teacher, found {text.strip()[:80]!r}"
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


def _is_empty(value: Any) -> bool:
    return value == [] or (isinstance(value, dict) and [] in value.values())


def _drafts_in(value: Any) -> Iterator[Draft]:
    if isinstance(value, list):
        for item in value:
            yield from _drafts_in(item) if isinstance(item, dict) else ()
    elif isinstance(value, dict):
        fields = {str(name).strip().lower(): found for name, found in value.items()}
        question, answer = _usable(fields.get("question")), _usable(fields.get("answer"))
        if question and answer:
            yield Draft(question, answer)
        else:
            for inner in value.values():
                yield from _drafts_in(inner) if isinstance(inner, list) else ()


def _usable(value: Any) -> str | None:
    """Return a text's content; None if it is no text, or holds half a character."""
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        return None
    return value.strip() or None
