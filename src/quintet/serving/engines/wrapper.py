"""An engine around another: what a wrapper does not change. Knows nothing of what wrappers are for."""

from quintet.engine.interface import Adapter, DeviceInfo, Engine, EngineStatus


class WrappedEngine:
    """All of an engine but `generate`, which is what wrappers are for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def device(self) -> DeviceInfo:
        return self._engine.device

    @property
    def context_length(self) -> int:
        return self._engine.context_length

    @property
    def status(self) -> EngineStatus:
        return self._engine.status

    async def load(self, adapter: Adapter) -> None:
        await self._engine.load(adapter)

    async def close(self) -> None:
        await self._engine.close()
