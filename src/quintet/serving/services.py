"""Services: the parts of one application, and a view of them as one caller may see them."""

import time
from dataclasses import dataclass, field, replace

from quintet.config import Project
from quintet.engine.interface import CachePolicy, Engine
from quintet.serving.answer_log import RecentAnswers
from quintet.serving.caller import Caller
from quintet.serving.catalog import Catalog
from quintet.serving.drain import Drain
from quintet.serving.generation import GenerationContext, TokenSource
from quintet.serving.live_project import LiveProject
from quintet.serving.live_router import LiveRouter
from quintet.serving.observability.metrics import Metrics
from quintet.serving.providers.pool import Providers
from quintet.serving.quota import Account


@dataclass(frozen=True)
class Services:
    """The parts that one application is made of; a request has the project pinned, as its caller may see it."""

    current: LiveProject
    engine: Engine
    source: TokenSource
    catalog: Catalog
    metrics: Metrics
    answers: RecentAnswers
    providers: Providers
    router: LiveRouter
    drain: Drain
    account: Account | None = None
    cache: CachePolicy = "use"
    started: int = field(default_factory=lambda: int(time.time()))
    pinned: Project | None = None

    @property
    def project(self) -> Project:
        """The project as the request has it; without one, as it is now."""
        return self.current.project if self.pinned is None else self.pinned

    @property
    def generation_context(self) -> GenerationContext:
        """What the request's answers are generated with."""
        deadline = self.current.project.config.serving.deadline_seconds
        return GenerationContext(self.source, deadline, self.cache, self.account, self.metrics)

    def visible_to(self, caller: Caller, cache: CachePolicy = "use") -> "Services":
        """Return them as a caller has them: without the models that they may not ask, and on their quota."""
        project = caller.visible(self.current.project)
        account = caller.limits if caller.limits is not None and caller.limits.limits_tokens else None
        return replace(self, pinned=project, catalog=self.catalog.limited_to(project), account=account, cache=cache)
