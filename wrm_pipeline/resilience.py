"""How network calls fail and go on: one retry layer, and a circuit breaker inside it.

What counts as transient is the caller's to say, with a `classify` function: the object store and the feed differ.

The `circuitbreaker` package was considered and does not fit: an exception it does not expect counts as a success, so a
refused key would reset the count, half open it lets every thread through, and its state cannot be shared by processes.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import tenacity
from tenacity.wait import wait_base

from wrm_pipeline.errors import ExpectedError, words_of

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")
_log = logging.getLogger(__name__)

# A trial call that has not come back by then died with its process, and another call may try. Longer than any one
# S3 request or feed fetch takes under the default timeouts (20 s to read).
TRIAL_LEASE_S = 60.0
_LAST_ERROR_CHARACTERS = 300


class Failure(Enum):
    """What a failed attempt means for the next one."""

    TRANSIENT = auto()  # try again, later
    CORRUPT = auto()  # damaged in transit: once more, then an error
    PERMANENT = auto()  # trying again changes nothing
    STALE_CREDENTIALS = auto()  # read the credentials again, once, then an error
    BREAKER_OPEN = auto()  # not attempted at all


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to try.

    The wait before retry n is random between 0 and `base_s` · 2ⁿ⁻¹, at most `cap_s`, unless the server names a time.
    No wait goes past `budget_s`, counted from the first attempt: a call gives up rather than sleep beyond it.
    """

    attempts: int = 5
    budget_s: float = 60.0
    base_s: float = 0.2
    cap_s: float = 10.0


class BreakerOpen(ExpectedError):  # noqa: N818 - a state, not a fault of the caller
    """The call was not made, because the ones before it failed.

    Attributes:
        name: of the breaker.
        seconds_left: until a trial call is let through.
        last_error: what the last failure said.
    """

    def __init__(self, name: str, seconds_left: float, last_error: str) -> None:
        self.name = name
        self.seconds_left = seconds_left
        self.last_error = last_error
        super().__init__(
            f"{name} failed repeatedly and is not asked for {seconds_left:.0f} s. The last failure: {last_error}"
        )


@dataclass(frozen=True)
class BreakerRules:
    """When a breaker opens (consecutive transient failures) and for how long, in seconds."""

    name: str
    failure_threshold: int
    open_s: float


@dataclass(frozen=True)
class Refusal:
    """A breaker is open: seconds until the next trial, and what went wrong last."""

    seconds_left: float
    last_error: str


class BreakerState(Protocol):
    """Where breakers keep what they know. `now` is the store's own clock; a trial is known by a random token."""

    def admit(self, rules: BreakerRules, token: str) -> Refusal | bool:
        """Ask for permission: a refusal, or whether this call is the trial (True) or an ordinary one (False)."""
        ...

    def failed(self, rules: BreakerRules, token: str, error: str) -> None:
        """Note a transient failure."""
        ...

    def succeeded(self, rules: BreakerRules, token: str) -> None:
        """Note a success."""
        ...

    def released(self, rules: BreakerRules, token: str) -> None:
        """Note that a trial ended without an answer to the question."""
        ...

    def refusal(self, rules: BreakerRules) -> Refusal | None:
        """Tell what `admit` would refuse, and change nothing."""
        ...


@dataclass
class _Circuit:
    """One breaker's numbers; `opened_at` is None while it is closed."""

    failures: int = 0
    opened_at: float | None = None
    trial: str = ""
    trial_until: float = 0.0
    last_error: str = ""

    def refusal(self, rules: BreakerRules, now: float) -> Refusal | None:
        if self.opened_at is None:
            return None
        until = self.opened_at + rules.open_s
        if self.trial:
            until = max(until, self.trial_until)
        return Refusal(until - now, self.last_error) if until > now else None


class LocalBreakerState:
    """Breaker state of this process.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._circuits: dict[str, _Circuit] = {}

    def admit(self, rules: BreakerRules, token: str) -> Refusal | bool:
        """See `BreakerState`."""
        with self._lock:
            circuit = self._circuits.get(rules.name)
            if circuit is None or circuit.opened_at is None:
                return False
            now = self._clock()
            refusal = circuit.refusal(rules, now)
            if refusal is not None:
                return refusal
            circuit.trial, circuit.trial_until = token, now + TRIAL_LEASE_S
            return True

    def failed(self, rules: BreakerRules, token: str, error: str) -> None:
        """See `BreakerState`."""
        with self._lock:
            circuit = self._circuits.setdefault(rules.name, _Circuit())
            circuit.failures += 1
            circuit.last_error = error
            # A call from before the opening that fails now does not keep the breaker open longer.
            if circuit.trial == token or (circuit.opened_at is None and circuit.failures >= rules.failure_threshold):
                circuit.opened_at, circuit.trial = self._clock(), ""

    def succeeded(self, rules: BreakerRules, token: str) -> None:
        """See `BreakerState`."""
        with self._lock:
            circuit = self._circuits.get(rules.name)
            # While it is open only the trial's success counts: others started before the trouble.
            if circuit is not None and (circuit.opened_at is None or circuit.trial == token):
                del self._circuits[rules.name]

    def released(self, rules: BreakerRules, token: str) -> None:
        """See `BreakerState`."""
        with self._lock:
            circuit = self._circuits.get(rules.name)
            if circuit is not None and circuit.trial == token:
                circuit.trial = ""

    def refusal(self, rules: BreakerRules) -> Refusal | None:
        """See `BreakerState`."""
        with self._lock:
            circuit = self._circuits.get(rules.name)
            return circuit.refusal(rules, self._clock()) if circuit is not None else None


# One script, so that each step is atomic, with the server's clock, so that machines need not agree on the time.
# KEYS[1] the hash; ARGV: step, token, threshold, open_ms, lease_ms, error. Reply: word, milliseconds, failures, error.
_SCRIPT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local step, token, threshold = ARGV[1], ARGV[2], tonumber(ARGV[3])
local open_ms, lease_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local h = redis.call('HMGET', KEYS[1], 'failures', 'opened_at', 'trial', 'trial_until', 'last_error')
local failures, opened_at = tonumber(h[1] or '0'), tonumber(h[2] or '')
local trial, trial_until = h[3] or '', tonumber(h[4] or '0')
local function keep() redis.call('PEXPIRE', KEYS[1], open_ms + lease_ms + 600000) end
if step == 'admit' or step == 'look' then
  if not opened_at then return {'closed', 0, failures, ''} end
  local till = opened_at + open_ms
  if trial ~= '' and trial_until > till then till = trial_until end
  if till > now then return {'open', till - now, failures, h[5] or ''} end
  if step == 'admit' then
    redis.call('HSET', KEYS[1], 'trial', token, 'trial_until', now + lease_ms)
    keep()
  end
  return {'trial', 0, failures, ''}
elseif step == 'failed' then
  failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
  redis.call('HSET', KEYS[1], 'last_error', ARGV[6])
  if trial == token or (not opened_at and failures >= threshold) then
    redis.call('HSET', KEYS[1], 'opened_at', now, 'trial', '')
  end
  keep()
elseif step == 'succeeded' then
  if not opened_at or trial == token then redis.call('DEL', KEYS[1]) failures = 0 end
elseif trial == token then
  redis.call('HSET', KEYS[1], 'trial', '')
end
return {'done', 0, failures, ''}
"""


class OptionalPart:
    """A part that helps when it answers and is left alone when it does not: Redis, a gateway, a collector.

    A failure costs one warning and `deadline_s`; the part is not asked again for `quiet_s` seconds. Nothing here raises
    because of the part.

    Args:
        name: for the warning, such as "Redis".
        setting: the variable to check, such as "REDIS_URL".
        without: what is not done meanwhile, as the rest of a sentence.
        deadline_s: for one answer, name resolution included, which no socket's timeout covers.
        quiet_s: how long to leave it alone after a failure.
    """

    def __init__(
        self, name: str, setting: str, without: str, *, deadline_s: float = 0.2, quiet_s: float = 30.0
    ) -> None:
        self.name = name
        self._setting = setting
        self._without = without
        self._deadline_s = deadline_s
        self._quiet_s = quiet_s
        self._lock = threading.Lock()
        self._quiet_until = 0.0
        self._warned = False

    def ask(self, operation: Callable[[], T]) -> T | None:
        """Return what the operation returns, or None when the part is not to be used now.

        The operation runs in a thread of its own and may outlive the deadline; let it set socket timeouts too, and
        return something other than None.
        """
        with self._lock:  # threads that wait here find out from the first one that it is down, and lose nothing more
            if time.monotonic() < self._quiet_until:
                return None
            answer: list[T] = []
            problems: list[str] = []

            def run() -> None:
                try:
                    answer.append(operation())
                except Exception as problem:  # noqa: BLE001 - whatever the optional part does, the run goes on
                    problems.append(words_of(problem))  # its text may quote an address with a password

            thread = threading.Thread(target=run, name=f"optional-{self.name}", daemon=True)
            thread.start()
            thread.join(self._deadline_s)
            if answer:
                self._warned = False
                return answer[0]
            self._quiet_until = time.monotonic() + self._quiet_s
            if not self._warned:
                self._warned = True
                _log.warning(
                    "%s does not work (%s): %s. Check %s. Trying again every %.0f s.",
                    self.name,
                    problems[0] if problems else f"no answer within {self._deadline_s} s",
                    self._without,
                    self._setting,
                    self._quiet_s,
                )
            return None


class OptionalRedis:
    """A Redis as an optional part, for all that uses one address in a process; connected when first asked.

    Args:
        url: as `REDIS_URL`; never logged, since it may hold a password.
        deadline_s: see `OptionalPart`; each read and write of a socket gets half of it.
        quiet_s: see `OptionalPart`.
    """

    def __init__(self, url: str, *, deadline_s: float = 0.2, quiet_s: float = 30.0) -> None:
        without = "circuit breakers and cached values are not shared between processes meanwhile"
        self._part = OptionalPart("Redis", "REDIS_URL", without, deadline_s=deadline_s, quiet_s=quiet_s)
        self._url = url
        self._patience_s = deadline_s / 2
        self._client: Redis | None = None

    def ask(self, operation: Callable[["Redis"], T]) -> T | None:
        """Return what the operation returns, or None when Redis is not to be used now. See `OptionalPart.ask`."""
        import redis  # noqa: F401 - it takes longer than the deadline

        def run() -> T:
            self._client = self._client or impatient_redis(self._url, self._patience_s)
            return operation(self._client)

        return self._part.ask(run)


def impatient_redis(url: str, patience_s: float) -> "Redis":
    """Return a client that tries once, and waits so long to connect and for each answer."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(
        url, socket_connect_timeout=patience_s, socket_timeout=patience_s, retry=Retry(NoBackoff(), 0)
    )


class RedisBreakerState:
    """Breaker state shared by all processes that use one Redis, at keys `wrm:breaker:{name}`.

    While Redis fails, the state is this process's own. Nothing here raises because of Redis.

    Args:
        redis: the server, or its address for a connection of its own.
    """

    QUIET_S = 30.0
    # A closed breaker asks Redis this often at most; another process's opening is noticed as much later.
    LOOK_EVERY_S = 1.0

    def __init__(self, redis: OptionalRedis | str) -> None:
        self._redis = OptionalRedis(redis, quiet_s=self.QUIET_S) if isinstance(redis, str) else redis
        self._local = LocalBreakerState()
        self._lock = threading.Lock()
        self._closed_until: dict[str, float] = {}  # by name: when to look again
        self._failures: dict[str, int] = {}  # by name: as Redis said last

    def admit(self, rules: BreakerRules, token: str) -> Refusal | bool:
        """See `BreakerState`."""
        if self._known_closed(rules):
            return False
        with self._lock:
            if self._known_closed(rules):  # another thread has looked meanwhile
                return False
            reply = self._run("admit", rules, token)
            if reply is not None and reply[0] == "closed":
                self._closed_until[rules.name] = time.monotonic() + self.LOOK_EVERY_S
                return False
        if reply is None:
            return self._local.admit(rules, token)
        return Refusal(reply[1], reply[2]) if reply[0] == "open" else True

    def failed(self, rules: BreakerRules, token: str, error: str) -> None:
        """See `BreakerState`."""
        self._closed_until.pop(rules.name, None)
        if self._run("failed", rules, token, error) is None:
            self._local.failed(rules, token, error)

    def succeeded(self, rules: BreakerRules, token: str) -> None:
        """See `BreakerState`."""
        nothing_to_reset = self._known_closed(rules) and not self._failures[rules.name]
        if not nothing_to_reset and self._run("succeeded", rules, token) is None:
            self._local.succeeded(rules, token)

    def released(self, rules: BreakerRules, token: str) -> None:
        """See `BreakerState`."""
        if self._run("released", rules, token) is None:
            self._local.released(rules, token)

    def refusal(self, rules: BreakerRules) -> Refusal | None:
        """See `BreakerState`."""
        reply = self._run("look", rules, "")
        if reply is None:
            return self._local.refusal(rules)
        return Refusal(reply[1], reply[2]) if reply[0] == "open" else None

    def _known_closed(self, rules: BreakerRules) -> bool:
        return time.monotonic() < self._closed_until.get(rules.name, 0.0)

    def _run(self, step: str, rules: BreakerRules, token: str, error: str = "") -> tuple[str, float, str] | None:
        """Run one step in Redis; None when Redis cannot be used now."""
        numbers = (rules.failure_threshold, int(rules.open_s * 1000), int(TRIAL_LEASE_S * 1000))

        def ask(client: "Redis") -> tuple[str, float, str]:
            reply: Any = client.eval(_SCRIPT, 1, f"wrm:breaker:{rules.name}", step, token, *map(str, numbers), error)
            word, milliseconds, failures, last_error = reply
            self._failures[rules.name] = int(failures)
            return word.decode(), int(milliseconds) / 1000, last_error.decode()

        reply = self._redis.ask(ask)
        if reply is None:
            self._closed_until.clear()
        return reply


class CircuitBreaker:
    """Stops asking a server that keeps failing, and lets one call at a time try whether it is back.

    Closed, it counts consecutive transient failures, over all threads (and processes, with a shared state). At
    `failure_threshold` it opens for `open_s` seconds. Then it is half open: exactly one trial call goes through; its
    success closes the breaker, its failure opens it again. Permanent failures neither trip nor reset it.

    Where N calls run at once, one hiccup is N consecutive failures: choose a threshold well above N.
    """

    def __init__(self, name: str, *, failure_threshold: int = 5, open_s: float = 30.0, state: BreakerState) -> None:
        self.name = name
        self._rules = BreakerRules(name, failure_threshold, open_s)
        self._state = state

    def is_open(self) -> bool:
        """Tell whether a call would be refused now; changes nothing, for sensors and schedules."""
        return self._state.refusal(self._rules) is not None

    def run(self, operation: Callable[[], T], classify: Callable[[BaseException], Failure]) -> T:
        """Run an operation if the breaker lets it, and learn from how it ends.

        Raises:
            BreakerOpen: it was not run.
        """
        token = secrets.token_hex(8)
        admitted = self._state.admit(self._rules, token)
        if isinstance(admitted, Refusal):
            raise BreakerOpen(self.name, admitted.seconds_left, admitted.last_error)
        try:
            result = operation()
        except BaseException as error:  # KeyboardInterrupt too: it must not keep the trial
            if classify(error) is Failure.TRANSIENT:
                self._state.failed(self._rules, token, str(error)[:_LAST_ERROR_CHARACTERS])
            elif admitted:
                self._state.released(self._rules, token)
            raise
        self._state.succeeded(self._rules, token)
        return result


@dataclass
class _Call:
    """The retry decisions of one call."""

    classify: Callable[[BaseException], Failure]
    renew_credentials: Callable[[], bool]
    seen: set[Failure] = field(default_factory=set)

    def again(self, error: BaseException) -> bool:
        failure = Failure.BREAKER_OPEN if isinstance(error, BreakerOpen) else self.classify(error)
        first = failure not in self.seen
        self.seen.add(failure)
        match failure:
            case Failure.TRANSIENT:
                return True
            case Failure.CORRUPT:
                return first
            case Failure.STALE_CREDENTIALS:
                return first and self.renew_credentials()
            case _:
                return False


class _Wait(wait_base):
    """Full jitter, or what the server asked for when that is longer."""

    def __init__(self, policy: RetryPolicy, retry_after: Callable[[BaseException], float | None]) -> None:
        self._jitter = tenacity.wait_random_exponential(multiplier=policy.base_s, max=policy.cap_s)
        self._retry_after = retry_after

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        asked = self._retry_after(_error_of(retry_state))
        return max(self._jitter(retry_state), asked or 0.0)


def _error_of(retry_state: tenacity.RetryCallState) -> BaseException:
    error = retry_state.outcome.exception() if retry_state.outcome is not None else None
    if error is None:
        raise AssertionError("tenacity asked about a retry of a call that did not fail")
    return error


def _never() -> bool:
    return False


def _nothing() -> None:
    return None


def _no_time(_: BaseException) -> float | None:
    return None


def call(
    operation: Callable[[], T],
    *,
    what: str,
    policy: RetryPolicy,
    classify: Callable[[BaseException], Failure],
    breaker: CircuitBreaker | None = None,
    retry_after: Callable[[BaseException], float | None] = _no_time,
    on_retry: Callable[[], None] = _nothing,
    renew_credentials: Callable[[], bool] = _never,
) -> T:
    """Run an operation, again where its failure is of a kind that passes, and return its result.

    Args:
        operation: one attempt; the errors it raises must not hold secrets, since they are logged.
        what: for the log, such as "GET s3://bucket/key".
        policy: how often and how long.
        classify: what a failure means. Never asked about `BreakerOpen`.
        breaker: sits inside the retry, so that each attempt counts.
        retry_after: the seconds a failure asks to wait; more than the budget has left means giving up at once.
        on_retry: called before each retry, to count it.
        renew_credentials: called at most once, on the first `STALE_CREDENTIALS`; True when there are new ones to try.

    Raises:
        BreakerOpen: the breaker refused this or a later attempt.
        BaseException: the last error of the operation itself.
    """
    attempt = operation if breaker is None else lambda: breaker.run(operation, classify)

    def before_sleep(state: tenacity.RetryCallState) -> None:
        on_retry()
        _log.warning(
            "%s: attempt %d of %d failed, trying again in %.2f s: %s",
            what,
            state.attempt_number,
            policy.attempts,
            state.upcoming_sleep,
            _error_of(state),
        )

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_Call(classify, renew_credentials).again),
        wait=_Wait(policy, retry_after),
        stop=tenacity.stop_any(
            tenacity.stop_after_attempt(policy.attempts), tenacity.stop_before_delay(policy.budget_s)
        ),
        before_sleep=before_sleep,
        reraise=True,
    )
    return retrying(attempt)
