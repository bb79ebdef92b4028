import pytest

from quintet.engine.scheduling.block_manager import BlockManager
from quintet.engine.scheduling.sequence import Sequence
from tests.engine.fake_runner import greedy

PROMPT = tuple(range(10))


@pytest.fixture
def cache() -> BlockManager:
    return BlockManager(blocks=6, block_size=4)


def sequence(ids: tuple[int, ...] = PROMPT, expert: str | None = None, num_virtual_tokens: int = 0) -> Sequence:
    return Sequence(ids, (), 8, greedy(), expert, num_virtual_tokens)


def computed(cache: BlockManager, one: Sequence) -> Sequence:
    """Admit a sequence, and let others use what it computed."""
    cache.admit(one)
    one.num_computed_tokens = len(one.ids)
    cache.commit(one)
    return one


def test_a_sequence_gets_blocks_for_all_of_its_ids(cache: BlockManager) -> None:
    one = sequence()
    assert cache.missing(one) == 3
    cache.admit(one)
    assert (len(one.blocks), one.num_computed_tokens, cache.free) == (3, 0, 3)


def test_the_full_blocks_of_a_beginning_are_shared_and_the_rest_is_not(cache: BlockManager) -> None:
    one = computed(cache, sequence())
    two = sequence((*PROMPT[:9], 99, 100, 101))
    assert cache.missing(two) == 1
    cache.admit(two)
    assert two.blocks[:2] == one.blocks[:2]
    assert two.blocks[2] != one.blocks[2]
    assert two.num_computed_tokens == 8


def test_what_is_not_computed_yet_is_not_shared(cache: BlockManager) -> None:
    one, two = sequence(), sequence()
    cache.admit(one)
    one.num_computed_tokens = 7
    cache.commit(one)
    cache.admit(two)
    assert (two.num_computed_tokens, two.blocks[0]) == (4, one.blocks[0])
    assert not set(one.blocks[1:]) & set(two.blocks)


def test_the_last_id_is_always_left_to_compute(cache: BlockManager) -> None:
    computed(cache, sequence(PROMPT[:8]))
    again = sequence(PROMPT[:8])
    cache.admit(again)
    assert (again.num_computed_tokens, again.remaining) == (4, 4)


def test_a_block_in_the_middle_is_found_only_after_the_same_beginning(cache: BlockManager) -> None:
    computed(cache, sequence())
    other = sequence((99, *PROMPT[1:]))
    cache.admit(other)
    assert other.num_computed_tokens == 0


@pytest.mark.parametrize(("expert", "num_virtual_tokens"), [("b", 0), (None, 0), ("a", 4)])
def test_another_expert_finds_nothing(cache: BlockManager, expert: str | None, num_virtual_tokens: int) -> None:
    cache.release(computed(cache, sequence(expert="a")))
    other = sequence(expert=expert, num_virtual_tokens=num_virtual_tokens)
    cache.admit(other)
    assert other.num_computed_tokens == 0


def test_virtual_tokens_take_the_first_places(cache: BlockManager) -> None:
    one = computed(cache, sequence(expert="a", num_virtual_tokens=3))
    assert len(one.blocks) == 4
    two = sequence(expert="a", num_virtual_tokens=3)
    cache.admit(two)
    assert (two.blocks[:3], two.num_computed_tokens) == (one.blocks[:3], 9)


def test_blocks_of_virtual_tokens_alone_are_not_shared_since_the_first_id_writes_them(cache: BlockManager) -> None:
    one = computed(cache, sequence(PROMPT[:3], "a", num_virtual_tokens=8))
    two = sequence(PROMPT[:3], "a", num_virtual_tokens=8)
    cache.admit(two)
    assert not set(one.blocks) & set(two.blocks)
    assert two.num_computed_tokens == 0


def test_released_blocks_are_found_again_until_somebody_needs_them(cache: BlockManager) -> None:
    cache.release(computed(cache, sequence()))
    assert cache.free == 6
    again = sequence()
    assert cache.missing(again) == 3
    cache.admit(again)
    assert again.num_computed_tokens == 8
    cache.release(again)
    cache.admit(sequence(tuple(range(50, 74))))
    assert cache.free == 0
    assert cache._block_of == {}


def test_the_least_recently_used_goes_first_and_the_end_of_a_text_before_its_beginning(cache: BlockManager) -> None:
    old, new = sequence(PROMPT[:8]), sequence(tuple(range(20, 28)))
    for one in (old, new):
        cache.release(computed(cache, one))
    cache.admit(sequence(tuple(range(50, 62))))
    found = [sequence((*one.prompt_ids, 1)) for one in (old, new)]
    cache.blocks += 4
    cache._free += [6, 7, 8, 9]
    cache._ref_counts += [0] * 4
    for one in found:
        cache.admit(one)
    assert [one.num_computed_tokens for one in found] == [4, 8]


def test_a_full_cache_does_not_grow(cache: BlockManager) -> None:
    one, other = sequence(PROMPT[:4]), sequence(tuple(range(50, 70)))
    cache.admit(one)
    cache.admit(other)
    assert cache.grow(one)
    one.ids.append(1)
    assert not cache.grow(one)
    cache.release(other)
    assert cache.grow(one)
    assert len(one.blocks) == 2


def test_of_two_that_compute_the_same_at_once_one_is_kept_and_nothing_leaks(cache: BlockManager) -> None:
    one, two = sequence(PROMPT[:8]), sequence(PROMPT[:8])
    cache.admit(one)
    cache.admit(two)
    for each in (one, two):
        each.num_computed_tokens = 8
        cache.commit(each)
    third = sequence((*PROMPT[:8], 1))
    cache.admit(third)
    assert third.blocks[:2] == one.blocks
    for each in (one, two, third):
        cache.release(each)
    assert cache.free == 6
