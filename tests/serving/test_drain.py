"""How requests end when the server does."""

import asyncio

import pytest

from quintet.errors import StoppingError
from quintet.serving.drain import Drain


async def under_way(drain: Drain, ends: asyncio.Event) -> str:
    with drain.request():
        await ends.wait()
    return "finished"


def test_requests_under_way_finish_and_new_ones_are_refused() -> None:
    async def run() -> None:
        drain, ends = Drain(), asyncio.Event()
        requests = [asyncio.create_task(under_way(drain, ends)) for _ in range(2)]
        await asyncio.sleep(0)
        drain.begin()
        assert drain.under_way == 2
        assert not await drain.finished(0.01)
        with pytest.raises(StoppingError):
            await under_way(drain, ends)
        ends.set()
        assert await drain.finished(1)
        assert await asyncio.gather(*requests) == ["finished"] * 2

    asyncio.run(run())


def test_requests_that_are_cut_short_are_told_that_the_server_ends() -> None:
    async def run() -> None:
        drain = Drain()
        requests = [asyncio.create_task(under_way(drain, asyncio.Event())) for _ in range(2)]
        await asyncio.sleep(0)
        drain.cut()
        for request in requests:
            with pytest.raises(StoppingError):
                await request
            assert not request.cancelling()
        assert drain.under_way == 0

    asyncio.run(run())


def test_a_request_that_its_client_cancels_is_cancelled() -> None:
    async def run() -> None:
        drain = Drain()
        request = asyncio.create_task(under_way(drain, asyncio.Event()))
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(run())
