"""What only a run knows of itself, pushed to a Pushgateway at the end of a step, one group of metrics an asset.

A push replaces the group, so what it does not know is gone rather than old. A gateway that fails costs one warning.
"""

import functools
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from wrm_pipeline.resilience import OptionalPart

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

JOB: Final = "wrm_step"
# The socket's own, below the deadline of the optional part, so that no thread outlives a step by long.
_SOCKET_S: Final = 0.2
_DEADLINE_S: Final = 0.25


class Transferred(Protocol):
    """What a step sent to and received from S3: a difference of two `Traffic`."""

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests by operation."""
        ...

    @property
    def bytes_received(self) -> int:
        """Of bodies."""
        ...

    @property
    def bytes_sent(self) -> int:
        """Of bodies."""
        ...

    @property
    def retries(self) -> int:
        """Requests that were made again."""
        ...


class Cached(Protocol):
    """What a step asked the cache for, and what that saved: a difference of two `CacheStats`."""

    @property
    def requests(self) -> Mapping[tuple[str, str], int]:
        """Lookups by tier and result, which is "hit" or "miss"."""
        ...

    @property
    def requests_saved(self) -> Mapping[str, int]:
        """Requests to S3 that were not made, by operation."""
        ...

    @property
    def bytes_saved(self) -> int:
        """Of bodies that were not fetched."""
        ...


@dataclass(frozen=True)
class StepFigures:
    """One step, when it has ended.

    Attributes:
        seconds: wall-clock time.
        succeeded: whether it did.
        traffic: what it sent to and received from S3; None when it did not get so far.
        cache: what it asked the cache for, and what that saved; None when it did not get so far.
        breakers_open: whether each circuit breaker is open now, by its name.
        feed_seconds: how long the feed took to answer; None when it was not asked.
        rows: how many became what, by "kept", "duplicate" or the name of the rule that set them aside.
    """

    seconds: float
    succeeded: bool
    traffic: Transferred | None = None
    cache: Cached | None = None
    breakers_open: Mapping[str, bool] = field(default_factory=dict)
    feed_seconds: float | None = None
    rows: Mapping[str, int] = field(default_factory=dict)


def push(figures: StepFigures, asset: str, gateway_url: str) -> None:
    """Push the figures of a step of an asset, or of an op; never raises because of the gateway."""
    # Before the deadline begins: it takes longer than the push.
    from prometheus_client import push_to_gateway

    registry = _registry(figures, finished_at=time.time())

    def operation() -> bool:
        push_to_gateway(
            gateway_url, job=JOB, registry=registry, grouping_key={"asset": asset}, timeout=_SOCKET_S, handler=_send
        )
        return True

    _gateway(gateway_url).ask(operation)


@functools.cache
def _gateway(url: str) -> OptionalPart:  # noqa: ARG001 - one for each
    return OptionalPart(
        "The Pushgateway",
        "WRM_PUSHGATEWAY_URL",
        "figures of steps are not pushed meanwhile",
        deadline_s=_DEADLINE_S,
    )


def _registry(figures: StepFigures, *, finished_at: float) -> "CollectorRegistry":
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry(auto_describe=False)

    def gauge(name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> None:
        family = Gauge(f"{JOB}_{name}", meaning, labels, registry=registry)
        for key, value in values:
            (family.labels(*key) if labels else family).set(value)

    gauge("seconds", "Wall-clock time of the newest step of an asset.", (), [((), figures.seconds)])
    gauge("succeeded", "Whether it succeeded.", (), [((), figures.succeeded)])
    gauge("finished_timestamp_seconds", "When it ended.", (), [((), finished_at)])
    traffic = figures.traffic
    if traffic is not None:
        requests = [((operation,), count) for operation, count in sorted(traffic.requests.items())]
        gauge("s3_requests", "Requests to S3, each attempt counted.", ("operation",), requests)
        gauge("s3_retries", "Attempts after the first one.", (), [((), traffic.retries)])
        directions = [(("received",), traffic.bytes_received), (("sent",), traffic.bytes_sent)]
        gauge("s3_bytes", "Bytes of bodies.", ("direction",), directions)
    cache = figures.cache
    if cache is not None:
        gauge("cache_requests", "Requests to the cache.", ("tier", "result"), sorted(cache.requests.items()))
        saved = [((operation,), count) for operation, count in sorted(cache.requests_saved.items())]
        gauge("cache_s3_requests_saved", "Requests to S3 that the cache made needless.", ("operation",), saved)
        gauge("cache_bytes_saved", "Bytes of bodies that the cache had.", (), [((), cache.bytes_saved)])
    breakers = [((name,), is_open) for name, is_open in sorted(figures.breakers_open.items())]
    gauge("breaker_open", "Whether a circuit breaker was open at the end.", ("breaker",), breakers)
    if figures.feed_seconds is not None:
        gauge("feed_seconds", "How long the feed took to answer.", (), [((), figures.feed_seconds)])
    rows = [((rule,), count) for rule, count in sorted(figures.rows.items())]
    gauge("rows", "Rows by what became of them.", ("rule",), rows)
    return registry


def _send(
    url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
) -> Callable[[], None]:
    """Return what sends one request: to the address itself, whatever proxy the environment names."""

    def send() -> None:
        request = urllib.request.Request(url, data, dict(headers), method=method)  # noqa: S310 - the settings': http(s)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=timeout) as answer:
            # A Pushgateway that has taken a push says so with nothing; a page is somebody else's.
            if answer.read(1):
                raise OSError("what answered is no Pushgateway")

    return send
