"""Bodies of conversations: what the server reads is typed, the rest is kept as it came."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from quintet.server.schemas.bodies import Body

MOST_TURNS = 10_000
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class AnswerKept(BaseModel):
    """An answer to a question; how it came about is kept with it."""

    model_config = ConfigDict(extra="allow")

    text: str


class TurnKept(BaseModel):
    """A question, and the answers to it."""

    model_config = ConfigDict(extra="allow")

    question: str
    answers: list[AnswerKept]


class ConversationBody(Body):
    """A conversation to be kept; `created` is in milliseconds, as browsers count them."""

    title: str = Field(min_length=1, max_length=200)
    created: int
    turns: list[TurnKept] = Field(max_length=MOST_TURNS)


class ConversationSummary(BaseModel):
    """Which conversation it is, and when it last changed, in milliseconds."""

    id: str
    title: str
    updated: int


class ConversationsAnswer(BaseModel):
    """The conversations of the key, the newest first."""

    conversations: list[ConversationSummary]


class ConversationAnswer(ConversationSummary):
    """All of a conversation, as it was kept."""

    created: int
    turns: list[TurnKept]


class WantedConversations(Body):
    """What is looked for in titles, questions and answers; capitals do not matter."""

    words: str = Field(max_length=1000)
