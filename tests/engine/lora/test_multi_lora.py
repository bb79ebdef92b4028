"""Experts mixed into linear layers, against each expert's own dense layers, token by token."""
# The shape letters are capitals.
# ruff: noqa: N803

import random
from collections.abc import Mapping, Sequence
from threading import Thread
from weakref import ref

import pytest
import torch
from torch import Tensor, nn

from quintet.engine.lora.multi_lora import MAX_RESIDENT, LoRAWeights, MultiLoRA, Parts, Scale

SIZES = {"first": (6, 10), "second": (10, 8), "head": (8, 12)}


class Model(nn.Module):
    """Three layers, of which the last sees some of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (nn.Linear(*size) for size in SIZES.values())

    def forward(self, x_1TI: Tensor, kept: Sequence[int]) -> Tensor:
        hidden: Tensor = self.second(self.first(x_1TI).tanh()).tanh()
        return self.head(hidden[:, list(kept)])  # type: ignore[no-any-return]


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model().double()


@pytest.fixture
def mixer(model: Model) -> MultiLoRA:
    return MultiLoRA(model, model.head)


def low_rank(path: str, rank: int, rng: random.Random) -> LoRAWeights:
    torch.manual_seed(rng.randrange(10**6))
    inputs, outputs = SIZES[path]
    return LoRAWeights(torch.randn(rank, inputs).double(), torch.randn(rank, outputs).double())


def scale(path: str, of_input: bool, rng: random.Random) -> Scale:
    torch.manual_seed(rng.randrange(10**6))
    return Scale(torch.randn(SIZES[path][not of_input]).double(), of_input)


def random_parts(rng: random.Random) -> Parts:
    """Some layers' parts, of low rank with a rank of each layer's own, or scales."""
    paths = rng.sample(sorted(SIZES), rng.randint(1, 3))
    if rng.random() < 0.3:
        return {path: scale(path, rng.random() < 0.5, rng) for path in paths}
    return {path: low_rank(path, rng.randint(1, 9), rng) for path in paths}


def dense(model: Model, parts: Parts, x_TI: Tensor) -> Tensor:
    """What the model says with one expert's parts written out."""

    def layer(path: str, inputs: Tensor) -> Tensor:
        part, linear = parts.get(path), model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        if isinstance(part, Scale):
            of_input = part.of_input
            inputs = inputs * part.factors if of_input else inputs
            out = nn.functional.linear(inputs, linear.weight, linear.bias)
            return out if of_input else out * part.factors
        out = nn.functional.linear(inputs, linear.weight, linear.bias)
        return out if part is None else out + inputs @ part.down_RI.T @ part.up_RO

    return layer("head", layer("second", layer("first", x_TI).tanh()).tanh())


@torch.inference_mode()
def say(model: Model, mixer: MultiLoRA, owners: Sequence[str | None], x_TI: Tensor) -> Tensor:
    kept = range(0, len(owners), 2)
    with mixer.active(mixer.prepare_batch(owners, kept, "cpu")):
        return model(x_TI[None], kept)[0]  # type: ignore[no-any-return]


@torch.inference_mode()
def check(
    model: Model, mixer: MultiLoRA, experts: Mapping[str, Parts], owners: Sequence[str | None], rng: random.Random
) -> None:
    torch.manual_seed(rng.randrange(10**6))
    x_TI = torch.randn(len(owners), 6).double()
    said = say(model, mixer, owners, x_TI)
    for place, row in enumerate(range(0, len(owners), 2)):
        owner = owners[row]
        expected = dense(model, experts[owner] if owner else {}, x_TI[row : row + 1])
        torch.testing.assert_close(said[place], expected[0])


@pytest.mark.parametrize("seed", range(8))
def test_each_token_gets_its_own_experts_layers_whoever_comes_goes_or_is_replaced(
    model: Model, mixer: MultiLoRA, seed: int
) -> None:
    rng = random.Random(seed)
    experts: dict[str, Parts] = {}
    for _ in range(60):
        name = rng.choice("abcdefgh")
        if rng.random() < 0.3:
            experts.pop(name, None)
            mixer.remove(name)
        else:
            experts[name] = random_parts(rng)
            mixer.add(name, experts[name])
        some: list[str | None] = [None, *rng.sample(sorted(experts), rng.randint(0, len(experts)))]
        for _ in range(rng.randint(1, 4)):
            check(model, mixer, experts, rng.choices(some, k=rng.randint(1, 9)), rng)


@pytest.mark.parametrize("seed", range(4))
def test_tokens_of_equally_wide_experts_are_sorted_to_them(
    model: Model, mixer: MultiLoRA, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MultiLoRA, "_others", lambda *_: pytest.fail("tokens were masked"))
    rng = random.Random(seed)
    experts: dict[str, Parts] = {
        name: {path: low_rank(path, 4, rng) for path in rng.sample(sorted(SIZES), 2)} for name in "abcde"
    }
    for name, parts in experts.items():
        mixer.add(name, parts)
    for _ in range(10):
        owners = [owner for owner in rng.choices([None, *experts], k=8) for _ in range(rng.choice([1, 2, 40]))]
        check(model, mixer, experts, ["a", *owners], rng)


def test_a_replaced_expert_leaves_nothing_where_it_had_more(model: Model, mixer: MultiLoRA) -> None:
    rng = random.Random(1)
    for parts in (
        {"first": low_rank("first", 9, rng), "second": low_rank("second", 9, rng)},
        {"first": low_rank("first", 2, rng), "head": low_rank("head", 9, rng)},
        {"second": scale("second", True, rng)},
        {"second": low_rank("second", 5, rng)},
    ):
        mixer.add("a", parts)
        check(model, mixer, {"a": parts}, ["a", None, "a"], rng)
        check(model, mixer, {"a": parts}, ["a", "a", "a"], rng)


def test_no_step_writes_what_is_there_already(model: Model, mixer: MultiLoRA, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(2)
    experts: dict[str, Parts] = {name: {"first": low_rank("first", 4, rng)} for name in "abc"}
    for name, parts in experts.items():
        mixer.add(name, parts)
    check(model, mixer, experts, ["a", "b", "c"], rng)
    monkeypatch.setattr(type(mixer._rows), "_write", lambda *_: pytest.fail("rows were written again"))
    for owners in (["b"], ["a", "c", None], ["c"], ["a", "b", "c"]):
        check(model, mixer, experts, owners, rng)


def test_experts_that_lie_far_apart_come_together_step_by_step(model: Model, mixer: MultiLoRA) -> None:
    rng = random.Random(5)
    experts: dict[str, Parts] = {name: {"first": low_rank("first", 4, rng)} for name in "abcdefghijkl"}
    for name, parts in experts.items():
        mixer.add(name, parts)
    check(model, mixer, experts, list(experts), rng)
    widths = []
    for _ in range(4):
        check(model, mixer, experts, ["a", "k", "l"], rng)
        widths.append(len(mixer._window))
    assert widths == [44, 12, 12, 12]


def test_a_removed_expert_is_let_go_of(model: Model, mixer: MultiLoRA) -> None:
    rng = random.Random(6)
    experts: dict[str, Parts] = {"a": {"first": low_rank("first", 4, rng), "second": scale("second", True, rng)}}
    mixer.add("a", experts["a"])
    check(model, mixer, experts, ["a", None], rng)
    held = [
        ref(tensor)
        for part in experts.pop("a").values()
        for tensor in vars(part).values()
        if isinstance(tensor, Tensor)
    ]
    mixer.remove("a")
    assert all(each() is None for each in held)


def test_an_expert_whose_numbers_overflow_hurts_no_neighbour(model: Model, mixer: MultiLoRA) -> None:
    rng = random.Random(3)
    wild = low_rank("first", 3, rng)
    experts: dict[str, Parts] = {
        "wild": {"first": LoRAWeights(wild.down_RI * 1e307, wild.up_RO * 1e307)},
        "tame": {"first": low_rank("first", 3, rng)},
    }
    for name, parts in experts.items():
        mixer.add(name, parts)
    x_TI = torch.randn(3, 6).double() * 1e3
    said = say(model, mixer, ["tame", "wild", None], x_TI)
    torch.testing.assert_close(said[0], dense(model, experts["tame"], x_TI[:1])[0])
    torch.testing.assert_close(said[1], dense(model, {}, x_TI[2:])[0])


def test_room_is_made_beforehand_on_another_thread_while_others_come_and_go(model: Model, mixer: MultiLoRA) -> None:
    rng = random.Random(4)
    experts: dict[str, Parts] = {name: {"first": low_rank("first", 4, rng)} for name in "abc"}
    for name, parts in experts.items():
        mixer.add(name, parts)
    check(model, mixer, experts, ["a", "b", "c"], rng)
    coming: Parts = {path: low_rank(path, 20, rng) for path in SIZES}
    thread = Thread(target=mixer.reserve, args=("d", coming))
    thread.start()
    thread.join()
    reserved = mixer._reserved
    mixer.remove("c")
    experts = {"a": experts["a"], "b": {"first": low_rank("first", 4, rng)}}
    mixer.add("b", experts["b"])
    check(model, mixer, experts, ["a", "b", None], rng)
    experts["d"] = coming
    mixer.add("d", coming)
    assert mixer._rows is reserved
    assert reserved is not None
    assert reserved.space.ranges.keys() <= {"a", "b"}
    for owners in (["a", "b", "d"], ["b"], ["d", None]):
        check(model, mixer, experts, owners, rng)


def test_of_many_experts_a_few_have_rows_unless_a_step_asks_for_more(model: Model, mixer: MultiLoRA) -> None:
    rng = random.Random(7)
    experts: dict[str, Parts] = {str(number): {"first": low_rank("first", 2, rng)} for number in range(200)}
    for name, parts in experts.items():
        mixer.add(name, parts)
    for _ in range(20):
        check(model, mixer, experts, rng.sample(sorted(experts), 30), rng)
    assert mixer._rows.space.capacity == 2 * MAX_RESIDENT
    check(model, mixer, experts, list(experts), rng)


def test_scales_are_laid_out_for_the_experts_of_a_step_alone(model: Model, mixer: MultiLoRA) -> None:
    rng = random.Random(8)
    experts: dict[str, Parts] = {str(number): {"first": scale("first", True, rng)} for number in range(50)}
    for name, parts in experts.items():
        mixer.add(name, parts)
    for owners in (["3", "4", None], ["3"], ["7", "4"]):
        check(model, mixer, experts, owners, rng)
    assert mixer._scales.row.keys() == {"7", "4"}
