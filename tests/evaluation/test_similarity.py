import json
from dataclasses import asdict
from typing import Any

import pytest

from quintet.config.endpoint import EndpointSettings
from quintet.errors import EndpointError, UnusableAnswerError
from quintet.evaluation.results import BASE, EXPERT, LIVE, Item
from quintet.evaluation.similarity import BATCH, cosine, mean_similarity, measure_similarity
from tests.evaluation.evaluations import evaluation, item
from tests.fake_endpoint import FakeEndpoint, Reply, embeds, refuses

VECTORS = {"So.": [3.0, 4.0], "Yes.": [4.0, 3.0], "No.": [-3.0, -4.0], "Aside.": [-4.0, 3.0]}
ITEMS = (
    item("Why?", "So.", base="No.", expert="Yes."),
    item("Why not?", "So.", base="Aside.", expert="So."),
)


def knows(body: dict[str, Any]) -> Reply:
    return embeds(*(VECTORS[text] for text in body["input"]))


def measure(endpoint: FakeEndpoint, items: tuple[Item, ...] = ITEMS) -> dict[str, tuple[float, ...]]:
    settings = EndpointSettings(endpoint.url, "embedder")
    return dict(measure_similarity(evaluation(items=items, live=False), settings).similarity)


def test_it_is_the_cosine_of_answer_and_reference(endpoint: FakeEndpoint) -> None:
    endpoint.answer = knows
    # By hand: (3·4 + 4·3) / (5·5) = 0.96; opposite -1; at a right angle 0; the same 1.
    assert measure(endpoint) == {BASE: (-1.0, 0.0), EXPERT: (0.96, 1.0)}


def test_the_mean_is_over_all_items(endpoint: FakeEndpoint) -> None:
    endpoint.answer = knows
    one = measure_similarity(evaluation(items=ITEMS, live=False), EndpointSettings(endpoint.url, "embedder"))
    assert mean_similarity(one) == {BASE: -0.5, EXPERT: pytest.approx(0.98)}
    assert one.similarity_model == "embedder"


def test_each_text_is_embedded_once_by_the_model_named(endpoint: FakeEndpoint) -> None:
    endpoint.answer = knows
    measure(endpoint)
    (body,) = endpoint.bodies
    assert endpoint.paths == ["/v1/embeddings"]
    assert body == {"model": "embedder", "input": ["So.", "No.", "Yes.", "Aside."]}


def test_the_live_release_is_measured_too(endpoint: FakeEndpoint) -> None:
    endpoint.answer = knows
    items = (item("Why?", "So.", base="No.", live="So.", expert="Yes."),)
    found = measure_similarity(evaluation(items=items), EndpointSettings(endpoint.url, "embedder")).similarity
    assert found == {BASE: (-1.0,), LIVE: (1.0,), EXPERT: (0.96,)}


def test_an_empty_answer_is_similar_to_nothing_and_is_not_sent(endpoint: FakeEndpoint) -> None:
    endpoint.answer = knows
    found = measure(endpoint, (item("Why?", "So.", base=" ", expert="<think>Hm"),))
    assert found == {BASE: (0.0,), EXPERT: (0.0,)}
    assert endpoint.bodies[0]["input"] == ["So."]


def test_thoughts_are_no_part_of_an_answer(endpoint: FakeEndpoint) -> None:
    endpoint.answer = knows
    assert measure(endpoint, (item("Why?", "So.", base="No.", expert="<think>No.</think> So."),))[EXPERT] == (1.0,)


def test_many_texts_are_sent_in_several_requests(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda body: embeds(*([float(text), 1.0] for text in body["input"]))
    items = tuple(item("Why?", str(n), base=str(-n), expert=str(n)) for n in range(1, BATCH + 1))
    found = measure(endpoint, items)
    assert sorted(len(body["input"]) for body in endpoint.bodies) == [BATCH, BATCH]
    assert found[EXPERT] == (1.0,) * BATCH
    assert found[BASE][1] == -0.6  # (-2·2 + 1·1) / 5


def test_vectors_are_put_in_the_order_of_their_index(endpoint: FakeEndpoint) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        rows = [{"index": place, "embedding": VECTORS[text]} for place, text in enumerate(body["input"])]
        return Reply(json.dumps({"data": rows[::-1]}))

    endpoint.answer = answer
    assert measure(endpoint)[EXPERT] == (0.96, 1.0)


@pytest.mark.parametrize(
    "reply",
    [
        embeds([1.0, 2.0]),
        embeds([1.0], [1.0, 2.0], [1.0], [1.0]),
        embeds([], [], [], []),
        embeds(*[[float("nan")]] * 4),
        Reply('{"data": [{"index": 0, "embedding": "AAAA"}]}'),
        Reply('{"choices": []}'),
        Reply("<html>Welcome</html>"),
    ],
)
def test_what_are_no_embeddings_is_told_with_what_was_expected(endpoint: FakeEndpoint, reply: Reply) -> None:
    endpoint.answer = lambda body: reply
    with pytest.raises(
        EndpointError, match=r"answered no embeddings: expected JSON with data, 4 vectors of one length"
    ):
        measure(endpoint)


def test_a_refusal_is_told_in_the_endpoints_words_and_without_the_key(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda body: refuses(400, "hush: input too long")
    with pytest.raises(UnusableAnswerError, match=r"/v1/embeddings answered 400: \(the key\): input too long"):
        measure_similarity(evaluation(items=ITEMS, live=False), EndpointSettings(endpoint.url, "embedder", "hush"))


def test_the_rest_of_the_evaluation_stays(endpoint: FakeEndpoint) -> None:
    endpoint.answer = knows
    one = evaluation(items=ITEMS, live=False)
    measured = asdict(measure_similarity(one, EndpointSettings(endpoint.url, "embedder")))
    assert measured | {"similarity": {}, "similarity_model": None} == asdict(one)


def test_a_vector_without_direction_has_no_angle() -> None:
    assert cosine([0.0, 0.0], [1.0, 2.0]) == 0.0
