"""Provider pool: the clients of all providers of a project, by name."""

import logging
from collections.abc import Mapping
from functools import partial

from quintet.config import ProviderConfig
from quintet.serving.answer import Answer
from quintet.serving.live_project import LiveProject
from quintet.serving.observability.metrics import Metrics
from quintet.serving.providers.answer import ProviderAnswer
from quintet.serving.providers.circuit_breaker import STATES
from quintet.serving.providers.client import Provider
from quintet.serving.providers.request import Asked
from quintet.serving.providers.retries import PATIENT, Patience, ProviderExchange
from quintet.serving.quota import Account

logger = logging.getLogger("quintet.server")


class Providers:
    """Asks each provider over connections of its own; what goes wrong with them, the metrics count.

    One whose settings are others than before is another: what the old one has begun, it ends.
    """

    def __init__(self, current: LiveProject, metrics: Metrics, patience: Patience = PATIENT) -> None:
        self._current = current
        self._metrics = metrics
        self._patience = patience
        self._known: dict[str, Provider] = {}
        self._replaced: list[Provider] = []
        for name, config in current.project.config.providers.items():
            self._find(name, config)
        metrics.watch_breakers(self._breakers)

    def answer(
        self, name: str, config: ProviderConfig, department: str, asked: Asked, account: Account | None
    ) -> Answer:
        """Return a provider's answer in a department's name; nothing is sent yet."""
        provider = self._find(name, config)
        failed = partial(self._metrics.provider_failed, name, department)
        exchange = ProviderExchange(provider, asked, failed, self._patience)
        return ProviderAnswer(department, provider, asked, exchange, self._metrics, account)

    def _find(self, name: str, config: ProviderConfig) -> Provider:
        known = self._known.get(name)
        if known is not None and known.config == config:
            return known
        if known is not None:
            self._replaced.append(known)
        made = self._known[name] = Provider(name, config)
        if made.lacks_key:
            logger.warning("provider %r is sent no key: $%s is not set", name, config.key_name)
        return made

    def _breakers(self) -> Mapping[str, int]:
        names = self._current.project.config.providers
        return {name: STATES.index(self._known[name].breaker.state) for name in names if name in self._known}

    async def close(self) -> None:
        """Close all connections."""
        for provider in (*self._known.values(), *self._replaced):
            await provider.close()
