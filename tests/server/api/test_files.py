"""Files become text beside a question, as much as fits; recordings become words, where an endpoint is named."""

import io
from collections.abc import Iterator
from typing import Any

import docx
import fpdf
import httpx
import pytest
import yaml

from quintet.config import Project
from quintet.registry.keys import create_key
from quintet.server.api import files
from quintet.server.app import create_app
from tests.conftest import write_project
from tests.fake_endpoint import FakeEndpoint, Reply, refuses
from tests.served import ScriptedEngine, Serve

ROWS = [("Journey", "Pence a mile"), ("By car", "45"), ("By bicycle", "20")]


@pytest.fixture
def client(project: Project, serve: Serve) -> Iterator[httpx.Client]:
    with serve(create_app(project, ScriptedEngine([]))) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def read(client: httpx.Client, name: str, data: bytes, **more: Any) -> httpx.Response:
    return client.post("/api/files/read", params={"name": name, **more}, content=data)


def a_pdf() -> bytes:
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.cell(text="Mileage is paid by the mile.", new_x="LMARGIN", new_y="NEXT")
    with pdf.table() as table:
        for cells in ROWS:
            row = table.row()
            for cell in cells:
                row.cell(cell)
    return bytes(pdf.output())


def a_docx() -> bytes:
    document = docx.Document()
    document.add_paragraph("Mileage is paid by the mile.")
    table = document.add_table(rows=0, cols=2)
    for cells in ROWS:
        for cell, text in zip(table.add_row().cells, cells, strict=True):
            cell.text = text
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def a_csv() -> bytes:
    return "\n".join(",".join(cells) for cells in ROWS).encode()


@pytest.mark.parametrize(("name", "data"), [("m.pdf", a_pdf()), ("m.docx", a_docx()), ("m.CSV", a_csv())])
def test_a_file_is_read_with_its_tables(client: httpx.Client, name: str, data: bytes) -> None:
    found = read(client, f"C:\\files\\{name}", data).json()
    assert found["name"] == name
    assert "| By bicycle | 20 |" in found["text"]
    assert (found["tokens_left_out"], found["notes"]) == (0, [])
    assert found["tokens"] > 0


def test_what_does_not_fit_is_left_out_by_whole_lines_and_counted(client: httpx.Client) -> None:
    lines = [f"Line {number} of many." for number in range(200)]
    found = read(client, "long.txt", "\n".join(lines).encode()).json()
    kept = found["text"].split("\n")
    assert kept == lines[: len(kept)]
    assert found["tokens"] <= 0.75 * ScriptedEngine.context_length
    assert found["tokens_left_out"] > 0
    fewer = read(client, "long.txt", "\n".join(lines).encode(), taken=100).json()
    assert fewer["tokens"] <= found["tokens"] - 90


def test_where_there_is_no_room_it_is_said(client: httpx.Client) -> None:
    answer = read(client, "a.txt", b"Text", taken=250)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("there is no room for a.txt")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.exe", b"MZ", "a.exe is of a kind that cannot be read; expected one of .md"),
        ("a.pdf", b"%PDF-1.4 broken", "a.pdf is broken, or no .pdf file"),
        ("a.txt", b" \n", "a.txt is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(client: httpx.Client, name: str, data: bytes, said: str) -> None:
    answer = read(client, name, data)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(said)


def test_a_file_that_takes_too_long_is_given_up(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SECONDS", 0.01)
    assert "within 0.01 s" in read(client, "a.txt", b"Text").json()["error"]["message"]


def test_a_key_that_may_not_ask_may_not_have_files_read(client: httpx.Client, project: Project) -> None:
    create_key(project, departments=["hr"])
    _, admin = create_key(project, roles=["admin"])
    assert read(client, "a.txt", b"Text").status_code == 401
    answer = client.post("/api/files/read?name=a.txt", content=b"Text", headers={"X-API-Key": admin})
    assert answer.status_code == 403


@pytest.fixture
def hearing(tmp_path: Any, tiny_base: Any, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = write_project(tmp_path / "hearing", tiny_base)
    path = project.root / "quintet.yaml"
    values = yaml.safe_load(path.read_text())
    values["serving"] = {"transcription": {"url": endpoint.url, "model": "whisper"}}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    monkeypatch.setenv("QUINTET_TRANSCRIPTION_KEY", "sk-secret")
    return Project.load(project.root)


def test_a_recording_is_understood_where_an_endpoint_is_named(
    hearing: Project, endpoint: FakeEndpoint, serve: Serve
) -> None:
    endpoint.answer = lambda body: Reply('{"text": "When is pay day?"}')
    with serve(create_app(hearing, ScriptedEngine([]))) as url:
        assert httpx.get(f"{url}/api/me").json()["hears"]
        kind = {"Content-Type": "audio/webm;codecs=opus"}
        assert httpx.post(f"{url}/api/speech/read", content=b"sound", headers=kind).json() == {
            "text": "When is pay day?"
        }
        assert endpoint.paths == ["/v1/audio/transcriptions"]
        assert endpoint.keys == ["Bearer sk-secret"]
        assert b'filename="recording.webm"' in endpoint.bodies[0]["raw"]
        assert b"whisper" in endpoint.bodies[0]["raw"]
        endpoint.answer = lambda body: refuses(401, "sk-secret is wrong")
        refused = httpx.post(f"{url}/api/speech/read", content=b"sound", headers=kind)
    assert refused.status_code == 502
    assert "answered 401" in refused.text
    assert "sk-secret" not in refused.text


def test_where_none_is_named_nobody_hears(client: httpx.Client) -> None:
    assert not client.get("/api/me").json()["hears"]
    assert "serving.transcription" in client.post("/api/speech/read", content=b"sound").json()["error"]["message"]
