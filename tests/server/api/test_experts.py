"""What experts are worth is shown to whom they answer; a release goes by what the gate said when they were measured."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from quintet.config import Project
from quintet.registry.audit import read_acts
from quintet.registry.evidence import record_evidence, write_forgetting
from quintet.registry.keys import create_key
from quintet.registry.releases import history, live
from quintet.server.app import create_app
from tests.registry.making import evidence_of
from tests.served import MakeExpert, ScriptedEngine, Serve


@dataclass
class Company:
    project: Project
    url: str
    keys: dict[str, str]

    def get(self, path: str, key: str = "admin") -> Any:
        return httpx.get(self.url + path, headers={"X-API-Key": self.keys[key]}).json()

    def post(self, path: str, key: str = "admin", **body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers={"X-API-Key": self.keys[key]})

    def error(self, path: str, key: str = "admin", **body: Any) -> tuple[int, str, str]:
        answer = self.post(path, key, **body)
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["message"]


@pytest.fixture
def company(project: Project, make_expert: MakeExpert, serve: Serve) -> Iterator[Company]:
    """hr@1 answers, hr@2 and finance@1 do not; one key for each, and an administrator that opens none."""
    make_expert(project)
    make_expert(project, version=2, seed=2, released=False)
    make_expert(project, "finance", released=False)
    keys = {name: create_key(project, departments=[name])[1] for name in ("hr", "finance")}
    keys["admin"] = create_key(project, roles=["admin"])[1]
    with serve(create_app(project, ScriptedEngine([]))) as url:
        yield Company(project, url, keys)


def test_a_key_sees_the_versions_of_what_it_opens(company: Company) -> None:
    (hr,) = company.get("/api/experts", "hr")["departments"]
    assert [(one["expert"], one["share"], one["gate"]) for one in hr["experts"]] == [
        ("hr@2", 0, None),
        ("hr@1", 100, None),
    ]
    assert hr["releases"][0]["split"] == [{"version": "hr@1", "share": 100}]
    assert hr["releases"][0]["by"] is None
    refused = company.get("/api/experts/hr@1", "finance")["error"]
    assert refused["message"] == company.get("/api/experts/nobody@1", "finance")["error"]["message"].replace(
        "nobody", "hr"
    )


def test_administrators_see_every_department_and_who_released_what(company: Company) -> None:
    departments = company.get("/api/experts")["departments"]
    assert [one["department"] for one in departments] == ["hr", "finance"]
    assert "@" in departments[0]["releases"][0]["by"]


def test_a_version_tells_what_was_measured_of_it(company: Company) -> None:
    run = company.project.runs / "hr/2"
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": n, "loss": 1 / n}) + "\n" for n in range(1, 2001)))
    differences = {"base": {"intervals": {"f1": {"mean": 0.2, "low": 0.1, "high": 0.3}}, "outcomes": vars_of(8, 1, 1)}}
    record_evidence(company.project, "hr@2", evidence_of(company.project, live="hr@1", differences=differences))
    found = company.get("/api/experts/hr@2", "hr")
    assert (found["rows"], found["score"], found["gate"], found["decides_nothing"]) == (12, 0.5, True, None)
    assert found["evidence"]["differences"]["base"]["intervals"]["f1"]["low"] == 0.1
    assert found["evidence"]["verdicts"] == [{"rule": "specific", "passed": True, "said": "it fits"}]
    assert len(found["curve"]["training"]) <= 200
    assert found["curve"]["training"][-1] == [2000, 1 / 2000]
    assert found["feedback"] == {"up": 0, "down": 0}


def vars_of(wins: int, ties: int, losses: int) -> dict[str, int]:
    return {"wins": wins, "ties": ties, "losses": losses}


def test_what_was_forgotten_is_shown_as_far_as_the_key_sees(company: Company) -> None:
    assert company.get("/api/forgetting", "hr")["experts"] == []
    matrix = {
        "experts": ["hr@1", "finance@1"],
        "sets": ["hr", "finance", "general"],
        "base": [1.0, 2.0, 3.0],
        "perplexity": [[4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
    }
    write_forgetting(company.project, matrix)
    seen = company.get("/api/forgetting", "finance")
    assert (seen["experts"], seen["sets"], seen["perplexity"]) == (["finance@1"], ["finance", "general"], [[8.0, 9.0]])
    assert company.get("/api/forgetting")["perplexity"] == matrix["perplexity"]


def test_what_the_gate_let_through_is_released_and_rolled_back(company: Company) -> None:
    record_evidence(company.project, "hr@2", evidence_of(company.project, live="hr@1"))
    made = company.post("/admin/releases", department="hr", version=2, reason="better")
    assert made.status_code == 200
    assert made.json()["split"] == [{"version": "hr@2", "share": 100}]
    assert not made.json()["forced"]
    (released,) = (act for act in read_acts(company.project, "hr", 2) if act.act == "release")
    assert released.who.startswith("key ")
    back = company.post("/admin/rollbacks", department="hr", reason="worse after all")
    assert back.json()["split"] == [{"version": "hr@1", "share": 100}]
    assert [one.reason for one in history(company.project, "hr")][:2] == ["worse after all", "better"]


def test_what_the_gate_blocks_stays_out_but_by_force_with_a_reason(company: Company) -> None:
    record_evidence(company.project, "hr@2", evidence_of(company.project, live="hr@1", passed=False))
    status, code, message = company.error("/admin/releases", department="hr", version=2)
    assert (status, code) == (409, "gate_error")
    assert "specific: it fits" in message
    assert company.error("/admin/releases", department="hr", version=2, force=True)[0] == 422
    made = company.post("/admin/releases", department="hr", version=2, force=True, reason="the deadline is today")
    assert made.json()["forced"]


def test_what_the_gate_did_not_see_is_not_released(company: Company) -> None:
    status, code, message = company.error("/admin/releases", department="hr", version=2)
    assert (status, code) == (409, "not_measured")
    assert message == "hr@2 was not measured yet; measure it, where its files are: quintet evaluate hr@2"
    record_evidence(company.project, "hr@2", evidence_of(company.project))
    assert "beside hr@1" in company.error("/admin/releases", department="hr", version=2)[2]


def test_what_was_changed_since_is_not_released_even_by_force(company: Company) -> None:
    weights = company.project.runs / "hr/2/expert/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    found = company.error("/admin/releases", department="hr", version=2, force=True, reason="please")
    assert found[:2] == (409, "release_refused")
    release = live(company.project, "hr")
    assert release is not None
    assert release.main == 1


def test_there_must_be_a_release_to_go_back_to(company: Company) -> None:
    assert company.error("/admin/rollbacks", department="hr")[:2] == (409, "release_refused")
    assert company.error("/admin/rollbacks", department="finance")[0] == 404


def test_who_may_ask_may_not_release(company: Company) -> None:
    assert company.error("/admin/releases", "hr", department="hr", version=2)[0] == 403
    assert company.error("/admin/rollbacks", "hr", department="hr")[0] == 403
