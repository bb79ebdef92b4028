"""Conversations that the server keeps are seen by the key that had them, and by nobody else."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import yaml

from quintet.config import Project
from quintet.registry.keys import create_key
from quintet.server.app import create_app
from tests.served import ScriptedEngine, Serve

PATH = "/api/conversations"
TALK = {
    "title": "Pay",
    "created": 1,
    "turns": [{"question": "When?", "files": [], "answers": [{"text": "On the 27th.", "model": "hr"}], "shown": 0}],
}


class Asker(httpx.Client):
    def error(self, method: str, path: str, **more: Any) -> tuple[int, str, str]:
        answer = self.request(method, PATH + path, **more)
        return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["message"]


def keep(project: Project, how_long: str) -> Project:
    path = project.root / "quintet.yaml"
    path.write_text(path.read_text() + yaml.safe_dump({"serving": {"keep_conversations": how_long}}))
    return Project.load(project.root)


@pytest.fixture
def askers(project: Project, serve: Serve) -> Iterator[dict[str, Asker]]:
    """Two keys of the same department, and an administrator who may not ask."""
    project = keep(project, "30d")
    keys = {name: create_key(project, departments=["hr"])[1] for name in ("one", "two")}
    keys["admin"] = create_key(project, departments=["*"], roles=["admin"])[1]
    with ExitStack() as held:
        url = held.enter_context(serve(create_app(project, ScriptedEngine([]))))
        made = {name: Asker(base_url=url, headers={"X-API-Key": key}) for name, key in keys.items()}
        yield {name: held.enter_context(one) for name, one in made.items()}


def test_a_conversation_comes_back_as_it_was_kept(askers: dict[str, Asker]) -> None:
    one = askers["one"]
    assert one.get("/api/me").json()["keeps_conversations"] == "30d"
    assert one.put(f"{PATH}/c1", json=TALK).status_code == 204
    (listed,) = one.get(PATH).json()["conversations"]
    assert (listed["id"], listed["title"]) == ("c1", "Pay")
    assert one.get(f"{PATH}/c1").json() == {**TALK, "id": "c1", "updated": listed["updated"]}
    assert one.post(f"{PATH}/search", json={"words": "27TH"}).json()["conversations"] == [listed]
    assert one.delete(f"{PATH}/c1").status_code == 204
    assert one.get(PATH).json() == {"conversations": []}


def test_to_another_key_it_was_never_there(askers: dict[str, Asker]) -> None:
    one, two = askers["one"], askers["two"]
    one.put(f"{PATH}/c1", json=TALK)
    for method in ("GET", "DELETE"):
        status, code, message = two.error(method, "/c1")
        assert (status, code) == (404, "conversation_not_found")
        assert message == two.error(method, "/c2")[2].replace("c2", "c1")
    assert two.get(PATH).json() == two.post(f"{PATH}/search", json={"words": "when"}).json() == {"conversations": []}
    assert two.put(f"{PATH}/c1", json={**TALK, "title": "Theirs"}).status_code == 204
    assert two.delete(PATH).status_code == 204
    assert one.get(f"{PATH}/c1").json()["title"] == "Pay"


def test_an_administrator_reads_nobodys(askers: dict[str, Asker]) -> None:
    askers["one"].put(f"{PATH}/c1", json=TALK)
    assert askers["admin"].error("GET", "/c1")[:2] == (403, "insufficient_permissions")


def test_what_is_no_conversation_is_refused(askers: dict[str, Asker]) -> None:
    one = askers["one"]
    status, _, message = one.error("PUT", "/c1", json={**TALK, "turns": [{"question": "When?"}]})
    assert (status, message) == (422, "turns[0].answers: this field is required and missing")
    assert one.error("PUT", "/c1", json={**TALK, "mood": "good"})[0] == 422
    assert one.error("PUT", "/a.b", json=TALK)[0] == 422
    long = {**TALK, "turns": TALK["turns"] * 10_000}  # type: ignore[operator]
    assert one.error("PUT", "/c1", json=long)[:2] == (400, "conversation_too_long")


def test_without_a_key_or_a_word_in_the_config_none_are_kept(project: Project, serve: Serve) -> None:
    with serve(create_app(keep(project, "30d"), ScriptedEngine([]), keys="off")) as url, Asker(base_url=url) as anyone:
        assert anyone.get("/api/me").json()["keeps_conversations"] is None
        assert "by key" in anyone.error("PUT", "/c1", json=TALK)[2]


def test_a_config_without_a_word_keeps_none(project: Project, serve: Serve) -> None:
    key = create_key(project, departments=["hr"])[1]
    headers = {"X-API-Key": key}
    with serve(create_app(project, ScriptedEngine([]))) as url, Asker(base_url=url, headers=headers) as one:
        assert one.get("/api/me").json()["keeps_conversations"] is None
        status, code, message = one.error("GET", "")
        assert (status, code) == (400, "conversations_not_kept")
        assert "serving.keep_conversations" in message
