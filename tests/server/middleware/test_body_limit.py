"""Bodies that are too long or too slow, on a real connection."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.server.app import create_app
from tests.conftest import write_project
from tests.served import ScriptedEngine, Serve
from tests.server.raw_client import RawClient, changed

HEAD = b"POST /api/infer/base HTTP/1.1\r\nHost: q\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, tiny_base: object, serve: Serve) -> Iterator[str]:
    """A server that takes 2,000 bytes, within a fifth of a second."""
    project: Project = write_project(tmp_path_factory.mktemp("bodies") / "company", tiny_base)  # type: ignore[arg-type]
    app = create_app(changed(project, max_body=2000, client_seconds=0.2), ScriptedEngine([Token(None, "stop")]))
    with serve(app) as url:
        yield url


def test_a_body_within_the_limits_is_answered(strict: str) -> None:
    assert httpx.post(f"{strict}/api/infer/base", json={"query": "x" * 100}).status_code == 200


def test_a_longer_body_is_refused_with_both_numbers_before_it_is_sent(strict: str) -> None:
    with RawClient(strict) as client:
        client.send(HEAD + b"Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n")
        status, headers, body = client.response()
    error = json.loads(body)["error"]
    assert (status, error["code"], headers["connection"]) == (413, "body_too_large", "close")
    assert "5,000" in error["message"]
    assert "2,000" in error["message"]


def test_a_client_that_sends_far_too_much_can_still_read_why_it_is_refused(strict: str) -> None:
    response = httpx.post(f"{strict}/api/infer/base", content=b"x" * 3_000_000)
    assert response.status_code == 413


def test_a_body_that_does_not_say_how_long_it_is_is_counted(strict: str) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 100

    assert httpx.post(f"{strict}/api/infer/base", content=chunks()).status_code == 413


def test_a_body_that_does_not_come_in_time_is_refused(strict: str) -> None:
    with RawClient(strict) as client:
        client.send(HEAD + b'Content-Length: 100\r\n\r\n{"query": ')
        status, headers, body = client.response()
    assert (status, json.loads(body)["error"]["code"], headers["connection"]) == (408, "slow_client", "close")


def test_a_head_that_does_not_come_in_time_is_refused(strict: str) -> None:
    with RawClient(strict) as client:
        client.send(HEAD)
        status, headers, body = client.response()
    assert (status, json.loads(body)["error"]["code"], headers["connection"]) == (408, "slow_client", "close")


def test_the_second_head_of_a_connection_must_come_in_time_too(strict: str) -> None:
    with RawClient(strict) as client:
        client.send(b"GET /ready HTTP/1.1\r\nHost: q\r\n\r\n")
        assert client.response()[0] == 200
        client.send(b"GET /rea")
        assert client.response()[0] == 408


def test_a_connection_that_says_nothing_is_closed_without_a_word(strict: str) -> None:
    with RawClient(strict) as client:
        assert client.read() == b""


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(
    strict: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RawClient(strict) as client:
        client.send(HEAD + b'Content-Length: 100\r\n\r\n{"query": ')
        client.socket.shutdown(socket.SHUT_RDWR)
    assert httpx.get(f"{strict}/ready").status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
