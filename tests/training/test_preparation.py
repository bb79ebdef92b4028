"""Between a file and the trainer, each row is tokenised once."""

from collections import Counter
from collections.abc import Sequence

import pytest

from quintet.chat import ChatTranslator, Encoded
from quintet.config import Project
from quintet.data.loading import load_examples
from quintet.messages import Message
from quintet.training.preparation import plan_run

Conversation = tuple[Message, ...]


@pytest.fixture
def tokenised(monkeypatch: pytest.MonkeyPatch) -> Counter[Conversation]:
    """How often each conversation was tokenised."""
    counts: Counter[Conversation] = Counter()
    encode = ChatTranslator.encode_examples

    def counting(self: ChatTranslator, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        counts.update(map(tuple, conversations))
        return encode(self, conversations)

    monkeypatch.setattr(ChatTranslator, "encode_examples", counting)
    return counts


def test_each_row_is_tokenised_once(project: Project, tokenised: Counter[Conversation]) -> None:
    plan = plan_run(project, "hr")
    assert len(plan.validation) == len(plan.held_out)
    rows = load_examples(project.data("hr"))
    assert {tokenised[row.messages] for row in rows} == {1}
    assert len(plan.rows) == len(rows)
