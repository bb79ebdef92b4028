"""The store in memory: how much it holds, how long, and what leaves first."""

import asyncio
import tracemalloc

from quintet.serving.response_cache.store import OVERHEAD, MemoryStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def put(store: MemoryStore, *keys: str, value: bytes = b"x") -> None:
    for key in keys:
        asyncio.run(store.put(key, value))


def there(store: MemoryStore, keys: str) -> str:
    return "".join(key for key in keys if asyncio.run(store.get(key)) is not None)


def test_what_was_put_is_there_and_nothing_else() -> None:
    store = MemoryStore(10_000, 60)
    put(store, "a", value=b"one")
    assert asyncio.run(store.get("a")) == b"one"
    assert asyncio.run(store.get("b")) is None


def test_the_least_recently_used_leave_when_there_is_no_room() -> None:
    store = MemoryStore(3 * (OVERHEAD + 1), 60)
    put(store, "a", "b", "c")
    there(store, "a")
    put(store, "d")
    assert there(store, "abcd") == "acd"


def test_what_is_put_again_takes_the_place_of_what_was() -> None:
    store = MemoryStore(10_000, 60)
    put(store, "a", value=b"x" * 1000)
    put(store, "a", value=b"y")
    assert (asyncio.run(store.get("a")), store.taken_bytes) == (b"y", OVERHEAD + 1)


def test_what_is_larger_than_the_store_pushes_nothing_out() -> None:
    store = MemoryStore(2000, 60)
    put(store, "a")
    put(store, "b", value=b"x" * 2000)
    assert there(store, "ab") == "a"


def test_what_is_too_old_is_not_there_any_more_and_takes_no_room() -> None:
    clock = Clock()
    store = MemoryStore(10_000, 60, clock)
    put(store, "a")
    clock.now = 30
    put(store, "b")
    clock.now = 60
    assert there(store, "ab") == "b"
    assert store.taken_bytes == OVERHEAD + 1


def test_it_takes_no_more_memory_than_it_says() -> None:
    async def fill() -> int:
        store = MemoryStore(1_000_000, 60)
        tracemalloc.start()
        for number in range(4000):
            await store.put(f"{number:064}", b"%0200d" % number)
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert store.taken_bytes > 990_000
        return taken

    assert asyncio.run(fill()) < 1_000_000
