"""The requests that docs/api.md shows, sent as they stand there."""

import json
import re
from pathlib import Path

import httpx

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
CURL = re.compile(r"^curl \S+ http://127\.0\.0\.1:8000(\S+) -H \"Content-Type: application/json\" -d '([^']+)'$", re.M)


def test_the_curl_examples_are_answered(api: httpx.Client) -> None:
    examples = CURL.findall(PAGE)
    assert len(examples) == PAGE.count("\ncurl ")
    for path, body in examples:
        response = api.post(path, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 200, response.text
        if json.loads(body).get("stream"):
            assert response.text.endswith("data: [DONE]\n\n")
        else:
            assert {"hours", "per"} == json.loads(response.json()["choices"][0]["message"]["content"]).keys()
