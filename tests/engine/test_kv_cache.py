import pytest

from quintet.engine.scheduling.block_manager import KVCache
from quintet.engine.scheduling.sequence import Sequence
from tests.engine.fake_runner import greedy

PROMPT = tuple(range(10))


@pytest.fixture
def cache() -> KVCache:
    return KVCache(blocks=6, block_size=4)


def sequence(ids: tuple[int, ...] = PROMPT, expert: str | None = None, virtual: int = 0) -> Sequence:
    return Sequence(ids, (), 8, greedy(), expert, virtual)


def computed(cache: KVCache, one: Sequence) -> Sequence:
    """Admit a sequence, and let others use what it computed."""
    cache.admit(one)
    one.computed = len(one.ids)
    cache.commit(one)
    return one


def test_a_sequence_gets_blocks_for_all_of_its_ids(cache: KVCache) -> None:
    one = sequence()
    assert cache.missing(one) == 3
    cache.admit(one)
    assert (len(one.blocks), one.computed, cache.free) == (3, 0, 3)


def test_the_full_blocks_of_a_beginning_are_shared_and_the_rest_is_not(cache: KVCache) -> None:
    one = computed(cache, sequence())
    two = sequence((*PROMPT[:9], 99, 100, 101))
    assert cache.missing(two) == 1
    cache.admit(two)
    assert two.blocks[:2] == one.blocks[:2]
    assert two.blocks[2] != one.blocks[2]
    assert two.computed == 8


def test_what_is_not_computed_yet_is_not_shared(cache: KVCache) -> None:
    one, two = sequence(), sequence()
    cache.admit(one)
    one.computed = 7
    cache.commit(one)
    cache.admit(two)
    assert (two.computed, two.blocks[0]) == (4, one.blocks[0])
    assert not set(one.blocks[1:]) & set(two.blocks)


def test_the_last_id_is_always_left_to_compute(cache: KVCache) -> None:
    computed(cache, sequence(PROMPT[:8]))
    again = sequence(PROMPT[:8])
    cache.admit(again)
    assert (again.computed, again.remaining) == (4, 4)


def test_a_block_in_the_middle_is_found_only_after_the_same_beginning(cache: KVCache) -> None:
    computed(cache, sequence())
    other = sequence((99, *PROMPT[1:]))
    cache.admit(other)
    assert other.computed == 0


@pytest.mark.parametrize(("expert", "virtual"), [("b", 0), (None, 0), ("a", 4)])
def test_another_expert_finds_nothing(cache: KVCache, expert: str | None, virtual: int) -> None:
    cache.release(computed(cache, sequence(expert="a")))
    other = sequence(expert=expert, virtual=virtual)
    cache.admit(other)
    assert other.computed == 0


def test_virtual_tokens_take_the_first_places(cache: KVCache) -> None:
    one = computed(cache, sequence(expert="a", virtual=3))
    assert len(one.blocks) == 4
    two = sequence(expert="a", virtual=3)
    cache.admit(two)
    assert (two.blocks[:3], two.computed) == (one.blocks[:3], 9)


def test_blocks_of_virtual_tokens_alone_are_not_shared_since_the_first_id_writes_them(cache: KVCache) -> None:
    one = computed(cache, sequence(PROMPT[:3], "a", virtual=8))
    two = sequence(PROMPT[:3], "a", virtual=8)
    cache.admit(two)
    assert not set(one.blocks) & set(two.blocks)
    assert two.computed == 0


def test_released_blocks_are_found_again_until_somebody_needs_them(cache: KVCache) -> None:
    cache.release(computed(cache, sequence()))
    assert cache.free == 6
    again = sequence()
    assert cache.missing(again) == 3
    cache.admit(again)
    assert again.computed == 8
    cache.release(again)
    cache.admit(sequence(tuple(range(50, 74))))
    assert cache.free == 0
    assert cache._block_of == {}


def test_the_least_recently_used_goes_first_and_the_end_of_a_text_before_its_beginning(cache: KVCache) -> None:
    old, new = sequence(PROMPT[:8]), sequence(tuple(range(20, 28)))
    for one in (old, new):
        cache.release(computed(cache, one))
    cache.admit(sequence(tuple(range(50, 62))))
    found = [sequence((*one.prompt_ids, 1)) for one in (old, new)]
    cache.blocks += 4
    cache._blank += [6, 7, 8, 9]
    cache._holders += [0] * 4
    for one in found:
        cache.admit(one)
    assert [one.computed for one in found] == [4, 8]


def test_a_full_cache_does_not_grow(cache: KVCache) -> None:
    one, other = sequence(PROMPT[:4]), sequence(tuple(range(50, 70)))
    cache.admit(one)
    cache.admit(other)
    assert cache.grow(one)
    one.ids.append(1)
    assert not cache.grow(one)
    cache.release(other)
    assert cache.grow(one)
    assert len(one.blocks) == 2


def test_of_two_that_compute_the_same_at_once_one_is_kept_and_nothing_leaks(cache: KVCache) -> None:
    one, two = sequence(PROMPT[:8]), sequence(PROMPT[:8])
    cache.admit(one)
    cache.admit(two)
    for each in (one, two):
        each.computed = 8
        cache.commit(each)
    third = sequence((*PROMPT[:8], 1))
    cache.admit(third)
    assert third.blocks[:2] == one.blocks
    for each in (one, two, third):
        cache.release(each)
    assert cache.free == 6
