"""Provider errors: why a provider gave no answer, and what its department's client is told."""

from typing import Literal

from quintet.errors import ProviderBusyError, ProviderError, ProviderSlowError

Reason = Literal["timeout", "unreachable", "busy", "refused", "unreadable", "cut"]


class UnansweredError(Exception):
    """It cannot be asked now, which tells nothing of how it is. `said` is what a client may know."""

    error: type[ProviderError] = ProviderBusyError

    def __init__(self, said: str, retry_after: float | None = None) -> None:
        super().__init__(said)
        self.said = said
        self.retry_after = retry_after

    def of(self, department: str, provider: str) -> ProviderError:
        """Return what the department's caller is told."""
        message = f"department {department!r} cannot answer now: its provider {provider!r} {self.said}; try again later"
        return self.error(message, self.retry_after)


class AttemptError(UnansweredError):
    """It was asked and failed; `detail` is for the log alone. `again` is whether another attempt may end better."""

    def __init__(
        self, reason: Reason, said: str, *, detail: str = "", again: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(said, retry_after)
        self.reason = reason
        self.detail = detail or said
        self.again = again
        if reason == "timeout":
            self.error = ProviderSlowError
        elif reason not in ("unreachable", "busy"):
            self.error = ProviderError
