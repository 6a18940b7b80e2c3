"""Retries and the circuit breaker: by themselves, with an injected clock, and with a real Redis."""

import contextlib
import logging
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from wrm_pipeline.cli.local_servers import LocalRedis, free_port
from wrm_pipeline.resilience import (
    TRIAL_LEASE_S,
    BreakerOpen,
    BreakerState,
    CircuitBreaker,
    Failure,
    LocalBreakerState,
    RedisBreakerState,
    RetryPolicy,
    call,
)
from wrm_pipeline_tests.fixtures.servers import wait_until

QUICK = RetryPolicy(attempts=4, budget_s=5.0, base_s=0.001, cap_s=0.002)


class FaultError(Exception):
    def __init__(self, failure: Failure, retry_after_s: float | None = None) -> None:
        super().__init__(f"a {failure.name} fault")
        self.failure = failure
        self.retry_after_s = retry_after_s


TRANSIENT, CORRUPT = FaultError(Failure.TRANSIENT), FaultError(Failure.CORRUPT)
PERMANENT, STALE = FaultError(Failure.PERMANENT), FaultError(Failure.STALE_CREDENTIALS)


def classify(error: BaseException) -> Failure:
    return error.failure if isinstance(error, FaultError) else Failure.PERMANENT


class Server:
    """An operation that goes wrong as written in a script, then works."""

    def __init__(self, *script: Exception) -> None:
        self.script = list(script)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.script:
            raise self.script.pop(0)
        return "answer"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(server: Callable[[], str], policy: RetryPolicy = QUICK, breaker: CircuitBreaker | None = None) -> str:
    return call(
        server,
        what="GET thing",
        policy=policy,
        classify=classify,
        breaker=breaker,
        retry_after=lambda error: getattr(error, "retry_after_s", None),
    )


class TestRetry:
    def test_transient_failures_are_tried_again(self) -> None:
        server = Server(TRANSIENT, TRANSIENT, TRANSIENT)
        assert ask(server) == "answer"
        assert server.calls == 4

    def test_the_last_error_itself_comes_out_when_attempts_are_used_up(self) -> None:
        last = FaultError(Failure.TRANSIENT)
        server = Server(TRANSIENT, TRANSIENT, TRANSIENT, last)
        with pytest.raises(FaultError) as caught:
            ask(server)
        assert caught.value is last
        assert server.calls == 4

    @pytest.mark.parametrize("error", [PERMANENT, KeyError("a bug")])
    def test_a_permanent_failure_or_a_bug_is_not(self, error: Exception) -> None:
        server = Server(error)
        with pytest.raises(type(error)):
            ask(server)
        assert server.calls == 1

    def test_corruption_is_tried_once_more(self) -> None:
        server = Server(CORRUPT)
        assert ask(server) == "answer"
        server = Server(CORRUPT, TRANSIENT, CORRUPT)
        with pytest.raises(FaultError, match="CORRUPT"):
            ask(server)
        assert server.calls == 3

    def test_stale_credentials_are_renewed_once(self) -> None:
        renewals: list[int] = []

        def renew() -> bool:
            renewals.append(1)
            return True

        def ask_renewing(server: Server) -> str:
            return call(server, what="x", policy=QUICK, classify=classify, renew_credentials=renew)

        assert ask_renewing(Server(STALE)) == "answer"
        server = Server(STALE, STALE)
        with pytest.raises(FaultError):
            ask_renewing(server)
        assert (server.calls, len(renewals)) == (2, 2)

    def test_without_new_credentials_it_is_over(self) -> None:
        server = Server(STALE)
        with pytest.raises(FaultError):
            ask(server)
        assert server.calls == 1

    def test_each_retry_is_logged_in_one_line_and_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        counted: list[int] = []
        server = Server(TRANSIENT, TRANSIENT)
        call(server, what="GET thing", policy=QUICK, classify=classify, on_retry=lambda: counted.append(1))
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == len(counted) == 2
        assert messages[1].startswith("GET thing: attempt 2 of 4 failed, trying again in 0.00 s: a TRANSIENT fault")

    def test_a_retry_after_is_waited_for(self) -> None:
        started = time.monotonic()
        assert ask(Server(FaultError(Failure.TRANSIENT, retry_after_s=0.3))) == "answer"
        assert time.monotonic() - started >= 0.3

    def test_a_retry_after_beyond_the_budget_gives_up_at_once(self) -> None:
        started = time.monotonic()
        with pytest.raises(FaultError):
            ask(Server(FaultError(Failure.TRANSIENT, retry_after_s=6.0)))
        assert time.monotonic() - started < 0.5

    @given(
        budget_s=st.floats(0.0, 0.05),
        base_s=st.floats(0.0, 0.1),
        cap_s=st.floats(0.0, 10.0),
        asked=st.one_of(st.none(), st.floats(0.0, 100.0)),
    )
    @settings(max_examples=30, deadline=None)
    def test_no_policy_sleeps_past_its_budget(
        self, budget_s: float, base_s: float, cap_s: float, asked: float | None
    ) -> None:
        policy = RetryPolicy(attempts=5, budget_s=budget_s, base_s=base_s, cap_s=cap_s)
        started = time.monotonic()
        with pytest.raises(FaultError):
            ask(Server(*[FaultError(Failure.TRANSIENT, asked)] * 5), policy)
        # 0.1 s for a machine that is busy with something else
        assert time.monotonic() - started < budget_s + 0.1

    @given(st.lists(st.sampled_from([TRANSIENT, CORRUPT, PERMANENT, STALE]), max_size=6))
    @settings(deadline=None)
    def test_no_script_of_failures_is_asked_too_often(self, script: list[FaultError]) -> None:
        server = Server(*script)
        try:
            ask(server)
        except FaultError as error:
            assert server.calls <= QUICK.attempts
            if error.failure is Failure.TRANSIENT:
                assert server.calls == QUICK.attempts
        else:
            assert {fault.failure for fault in script} <= {Failure.TRANSIENT, Failure.CORRUPT}
            assert server.calls == len(script) + 1


def fail(breaker: CircuitBreaker, error: Exception = TRANSIENT, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(type(error)):
            breaker.run(Server(error), classify)


class Contract:
    """What holds for every breaker state; `wait` lets the breaker's time pass."""

    OPEN_S: float

    @pytest.fixture
    def state(self) -> BreakerState:
        raise NotImplementedError

    @pytest.fixture
    def breaker(self, state: BreakerState, request: pytest.FixtureRequest) -> CircuitBreaker:
        name = f"{type(self).__name__}-{request.node.name}-{time.monotonic_ns()}"
        return CircuitBreaker(name, failure_threshold=3, open_s=self.OPEN_S, state=state)

    def wait_half_open(self, breaker: CircuitBreaker) -> None:
        raise NotImplementedError

    def open(self, breaker: CircuitBreaker) -> None:
        fail(breaker, times=3)
        assert breaker.is_open()

    def test_it_opens_at_the_threshold_and_asks_no_more(self, breaker: CircuitBreaker) -> None:
        fail(breaker, times=2)
        assert not breaker.is_open()
        fail(breaker)
        assert breaker.is_open()
        server = Server()
        with pytest.raises(BreakerOpen, match="a TRANSIENT fault") as caught:
            breaker.run(server, classify)
        assert server.calls == 0
        assert caught.value.name == breaker.name
        assert 0 < caught.value.seconds_left <= self.OPEN_S

    def test_a_success_resets_the_count(self, breaker: CircuitBreaker) -> None:
        for _ in range(4):
            fail(breaker, times=2)
            assert breaker.run(Server(), classify) == "answer"
        assert not breaker.is_open()

    def test_permanent_failures_neither_trip_nor_reset(self, breaker: CircuitBreaker) -> None:
        fail(breaker, PERMANENT, times=10)
        assert not breaker.is_open()
        fail(breaker, times=2)
        fail(breaker, PERMANENT, times=10)
        assert not breaker.is_open()
        fail(breaker)
        assert breaker.is_open()

    def test_the_trial_closes_it(self, breaker: CircuitBreaker) -> None:
        self.open(breaker)
        self.wait_half_open(breaker)
        assert breaker.run(Server(), classify) == "answer"
        fail(breaker, times=2)  # the count is back at zero: two more do not open it
        assert not breaker.is_open()

    def test_the_trial_opens_it_again(self, breaker: CircuitBreaker) -> None:
        self.open(breaker)
        self.wait_half_open(breaker)
        fail(breaker)
        assert breaker.is_open()

    def test_a_trial_without_an_answer_leaves_the_trial_to_the_next(self, breaker: CircuitBreaker) -> None:
        self.open(breaker)
        self.wait_half_open(breaker)
        fail(breaker, PERMANENT)
        assert not breaker.is_open()
        assert breaker.run(Server(), classify) == "answer"

    def test_an_interrupted_trial_is_given_back(self, breaker: CircuitBreaker) -> None:
        def interrupted() -> str:
            raise KeyboardInterrupt

        self.open(breaker)
        self.wait_half_open(breaker)
        with pytest.raises(KeyboardInterrupt):
            breaker.run(interrupted, classify)
        assert breaker.run(Server(), classify) == "answer"

    def test_of_many_threads_one_at_a_time_is_the_trial(self, breaker: CircuitBreaker) -> None:
        self.open(breaker)
        self.wait_half_open(breaker)
        inside, refused, leave = [], [], threading.Event()
        ready = threading.Barrier(12)

        def slow() -> str:
            inside.append(1)
            leave.wait(20)
            return "answer"

        def one() -> None:
            ready.wait(20)
            try:
                breaker.run(slow, classify)
            except BreakerOpen as error:
                refused.append(error)

        threads = [threading.Thread(target=one) for _ in range(12)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(refused) == 11)
        assert len(inside) == 1
        assert all(error.seconds_left > 0 for error in refused)
        leave.set()
        for thread in threads:
            thread.join()
        assert not breaker.is_open()

    def test_a_success_from_before_the_trouble_does_not_close_it(self, breaker: CircuitBreaker) -> None:
        def meanwhile_it_opens() -> str:
            self.open(breaker)
            return "answer"

        breaker.run(meanwhile_it_opens, classify)
        assert breaker.is_open()

    def test_breakers_of_other_names_are_others(self, breaker: CircuitBreaker, state: BreakerState) -> None:
        self.open(breaker)
        assert CircuitBreaker("another", state=state).run(Server(), classify) == "answer"

    def test_inside_a_retry_it_ends_the_retries(self, breaker: CircuitBreaker) -> None:
        server = Server(*[TRANSIENT] * 9)
        with pytest.raises(BreakerOpen):
            ask(server, RetryPolicy(attempts=9, base_s=0.001), breaker)
        assert server.calls == 3


class TestLocalState(Contract):
    OPEN_S = 30.0

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def state(self, clock: Clock) -> BreakerState:
        self.clock = clock
        return LocalBreakerState(clock)

    def wait_half_open(self, breaker: CircuitBreaker) -> None:
        self.clock.now += 29.9
        assert breaker.is_open()
        self.clock.now += 0.2
        assert not breaker.is_open()

    def test_a_trial_that_never_comes_back_loses_its_lease(self, breaker: CircuitBreaker) -> None:
        self.open(breaker)
        self.wait_half_open(breaker)

        def lost() -> str:
            with pytest.raises(BreakerOpen):
                breaker.run(Server(), classify)
            self.clock.now += TRIAL_LEASE_S
            assert breaker.run(Server(), classify) == "answer"  # the next trial
            raise TRANSIENT

        with pytest.raises(FaultError):
            breaker.run(lost, classify)
        assert not breaker.is_open()  # what the lost one says late is one failure like any other

    @given(st.lists(st.sampled_from(["success", "transient", "permanent", "wait"]), max_size=40))
    def test_it_never_asks_while_open_and_is_never_shut_for_ever(self, steps: list[str]) -> None:
        clock = Clock()
        breaker = CircuitBreaker("any", failure_threshold=3, open_s=30, state=LocalBreakerState(clock))
        in_a_row = 0
        for step in steps:
            if step == "wait":
                clock.now += 31
                continue
            was_open = breaker.is_open()
            server = Server(*{"success": (), "transient": (TRANSIENT,), "permanent": (PERMANENT,)}[step])
            with contextlib.suppress(FaultError, BreakerOpen):
                breaker.run(server, classify)
            assert server.calls == (0 if was_open else 1)
            if server.calls:
                in_a_row = {"success": 0, "transient": in_a_row + 1, "permanent": in_a_row}[step]
            assert was_open or breaker.is_open() == (step == "transient" and in_a_row >= 3)
        clock.now += 31
        assert breaker.run(Server(), classify) == "answer"


class TestRedisState(Contract):
    OPEN_S = 0.6

    @pytest.fixture
    def state(self, redis_server: LocalRedis) -> BreakerState:
        return RedisBreakerState(redis_server.url)

    def wait_half_open(self, breaker: CircuitBreaker) -> None:
        wait_until(lambda: not breaker.is_open())

    def test_two_instances_share_what_they_know(self, breaker: CircuitBreaker, redis_server: LocalRedis) -> None:
        other = CircuitBreaker(
            breaker.name, failure_threshold=3, open_s=self.OPEN_S, state=RedisBreakerState(redis_server.url)
        )
        fail(breaker, times=2)
        fail(other)
        assert breaker.is_open()
        with pytest.raises(BreakerOpen):
            other.run(Server(), classify)
        self.wait_half_open(other)
        assert other.run(Server(), classify) == "answer"
        assert breaker.run(Server(), classify) == "answer"

    def test_what_is_kept_is_plain_and_expires(self, breaker: CircuitBreaker, redis_server: LocalRedis) -> None:
        self.open(breaker)
        with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
            key = f"wrm:breaker:{breaker.name}"
            assert client.hgetall(key)["last_error"] == "a TRANSIENT fault"
            assert 0 < client.pttl(key) < 3_600_000

    def test_a_healthy_breaker_hardly_asks(self, breaker: CircuitBreaker, redis_server: LocalRedis) -> None:
        with redis.Redis.from_url(redis_server.url) as client:

            def asked() -> int:
                return int(client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"])

            before, started = asked(), time.monotonic()
            threads = [
                threading.Thread(target=lambda: [breaker.run(Server(), classify) for _ in range(100)]) for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert asked() - before <= 1 + (time.monotonic() - started)


def _trip(url: str, name: str) -> None:
    fail(CircuitBreaker(name, failure_threshold=3, open_s=60, state=RedisBreakerState(url)), times=3)


def test_another_process_that_trips_the_breaker_stops_this_one(redis_server: LocalRedis) -> None:
    breaker = CircuitBreaker("two-processes", failure_threshold=3, open_s=60, state=RedisBreakerState(redis_server.url))
    process = multiprocessing.get_context("spawn").Process(target=_trip, args=(redis_server.url, breaker.name))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    server = Server()
    with pytest.raises(BreakerOpen):
        breaker.run(server, classify)
    assert server.calls == 0


class TestRedisFails:
    """Redis is optional: one warning, a quarter of a second, the same results."""

    @pytest.fixture
    def hanging(self) -> Iterator[str]:
        """A server that accepts and says nothing."""
        with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
            yield f"redis://:pass-word@127.0.0.1:{listener.getsockname()[1]}/0"

    def check(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        breaker = CircuitBreaker("lonely", failure_threshold=3, open_s=60, state=RedisBreakerState(url))
        started = time.monotonic()
        threads = [threading.Thread(target=breaker.run, args=(Server(), classify)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fail(breaker, times=3)
        with pytest.raises(BreakerOpen):
            breaker.run(Server(), classify)
        assert breaker.is_open()
        assert time.monotonic() - started < 0.25 + 0.1  # 0.1 s for all the rest on a busy machine
        (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert "Check REDIS_URL" in warning.getMessage()
        assert "pass-word" not in warning.getMessage()

    def test_nobody_listens(self, caplog: pytest.LogCaptureFixture) -> None:
        self.check(f"redis://127.0.0.1:{free_port()}/0", caplog)

    def test_it_hangs(self, hanging: str, caplog: pytest.LogCaptureFixture) -> None:
        self.check(hanging, caplog)

    def test_the_name_does_not_resolve(self, caplog: pytest.LogCaptureFixture) -> None:
        self.check("redis://redis.invalid:6379/0", caplog)

    def test_the_address_is_nonsense(self, caplog: pytest.LogCaptureFixture) -> None:
        self.check("redis://127.0.0.1:not-a-port/0", caplog)

    def test_killed_on_the_way_and_back_later(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(RedisBreakerState, "QUIET_S", 0.5)
        monkeypatch.setattr(RedisBreakerState, "LOOK_EVERY_S", 0.0)
        with LocalRedis(tmp_path) as server:
            breaker = CircuitBreaker("flapping", failure_threshold=3, open_s=60, state=RedisBreakerState(server.url))
            assert breaker.run(Server(), classify) == "answer"
            server.kill()
            started = time.monotonic()
            for _ in range(50):
                assert breaker.run(Server(), classify) == "answer"
            assert time.monotonic() - started < 0.25 + 0.1
            wait_until(lambda: breaker.run(Server(), classify) == "answer" and time.monotonic() - started > 1.2)
            assert len(caplog.records) == 1  # although it has been tried again twice
            server.start()
            other = CircuitBreaker("flapping", failure_threshold=3, open_s=60, state=RedisBreakerState(server.url))
            fail(other, times=3)
            wait_until(breaker.is_open)  # it has found Redis again
            assert len(caplog.records) == 1
