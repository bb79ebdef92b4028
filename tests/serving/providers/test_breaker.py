"""When a provider that failed is asked again."""

from contextlib import ExitStack, suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quintet.serving.providers.circuit_breaker import Attempt, BreakerOpenError, CircuitBreaker

AFTER, SECONDS = 3, 30.0


class FailedError(Exception):
    pass


class Asking:
    """A breaker, a clock that stands still, and those who ask."""

    def __init__(self) -> None:
        self.now = 0.0
        self.breaker = CircuitBreaker(AFTER, SECONDS, lambda: self.now)

    def ends(self, error: type[BaseException] | None = None, answered: bool = False) -> None:
        with suppress(FailedError, KeyboardInterrupt), self.breaker.attempt(FailedError) as attempt:
            if answered:
                attempt.is_answered()
            if error:
                raise error

    def opens(self) -> None:
        for _ in range(AFTER):
            self.ends(FailedError)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    asking = Asking()
    for error in (FailedError, FailedError, None, FailedError, FailedError):
        asking.ends(error)
        assert asking.breaker.state == "closed"
    asking.ends(FailedError)
    assert asking.breaker.state == "open"
    with pytest.raises(BreakerOpenError) as caught:
        asking.ends()
    assert caught.value.seconds == SECONDS


def test_after_a_while_one_may_try_and_nobody_else() -> None:
    asking = Asking()
    asking.opens()
    asking.now = SECONDS
    with asking.breaker.attempt(FailedError), pytest.raises(BreakerOpenError):
        asking.ends()
    assert asking.breaker.state == "closed"


def test_one_failure_opens_it_again() -> None:
    asking = Asking()
    asking.opens()
    asking.now = SECONDS
    asking.ends(FailedError)
    assert asking.breaker.state == "open"


def test_others_need_not_wait_for_the_end_of_the_answer_that_was_tried() -> None:
    asking = Asking()
    asking.opens()
    asking.now = SECONDS
    with asking.breaker.attempt(FailedError) as attempt:
        attempt.is_answered()
        asking.ends()
    assert asking.breaker.state == "closed"


def test_a_trial_that_breaks_off_after_its_beginning_opens_it_again() -> None:
    asking = Asking()
    asking.opens()
    asking.now = SECONDS
    asking.ends(FailedError, answered=True)
    assert asking.breaker.state == "open"


def test_who_goes_away_while_trying_lets_the_next_one_try() -> None:
    asking = Asking()
    asking.opens()
    asking.now = SECONDS
    asking.ends(KeyboardInterrupt)
    asking.ends()
    assert asking.breaker.state == "closed"


def test_what_was_asked_before_it_opened_tells_nothing_new() -> None:
    asking = Asking()
    with suppress(FailedError), asking.breaker.attempt(FailedError):
        asking.opens()
        asking.now = SECONDS - 1
        raise FailedError
    asking.now = SECONDS
    assert asking.breaker.state == "half-open"


class Breaking(RuleBasedStateMachine):
    """Whoever asks when, and however it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = CircuitBreaker(AFTER, SECONDS, lambda: self.now)
        self.asking: list[tuple[ExitStack, Attempt]] = []

    @rule(seconds=st.sampled_from([1.0, SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def somebody_asks(self) -> None:
        stack, state = ExitStack(), self.breaker.state
        try:
            attempt = stack.enter_context(self.breaker.attempt(FailedError))
        except BreakerOpenError:
            assert state != "closed"
        else:
            assert state != "open"
            self.asking.append((stack, attempt))

    @precondition(lambda self: self.asking)
    @rule(data=st.data(), how=st.sampled_from([None, FailedError, KeyboardInterrupt]), answered=st.booleans())
    def an_answer_ends(self, data: st.DataObject, how: type[BaseException] | None, answered: bool) -> None:
        stack, attempt = self.asking.pop(data.draw(st.integers(0, len(self.asking) - 1)))
        if answered:
            attempt.is_answered()
        error = how() if how else None
        assert not stack.__exit__(how, error, None)

    @invariant()
    def at_most_one_tries(self) -> None:
        assert sum(attempt.probes for _, attempt in self.asking) <= 1

    def teardown(self) -> None:
        """However it went, whoever asks in the end is served again."""
        while self.asking:
            self.asking.pop()[0].close()
        self.now += SECONDS
        with self.breaker.attempt(FailedError):
            pass
        assert self.breaker.state == "closed"


TestBreaking = Breaking.TestCase
TestBreaking.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
