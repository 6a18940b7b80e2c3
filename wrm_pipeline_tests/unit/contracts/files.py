"""Copies of the packaged contracts with something changed."""

from pathlib import Path

from wrm_pipeline.contracts.load import PACKAGED, SUFFIX
from wrm_pipeline.contracts.vocabulary import DEAD_LETTERS, ENHANCED, PROCESSED, RAW

DATASETS = (RAW, PROCESSED, ENHANCED, DEAD_LETTERS)


def packaged_text(dataset: str) -> str:
    return (PACKAGED / f"{dataset}{SUFFIX}").read_text(encoding="utf-8")


def write(directory: Path, dataset: str, text: str) -> Path:
    """Write a contract under its own name, and return where."""
    path = directory / f"{dataset}{SUFFIX}"
    path.write_text(text, encoding="utf-8")
    return path


def edited(dataset: str, old: str, new: str, after: str = "") -> str:
    """The packaged contract with the first `old` behind the one place that says `after` replaced.

    Without `after`, `old` must stand in the file exactly once, so that a test changes what it names.
    """
    text = packaged_text(dataset)
    assert text.count(after or old) == 1, f"{after or old!r} stands {text.count(after or old)} times in {dataset}"
    start = text.index(after) if after else 0
    at = text.index(old, start)
    return text[:at] + new + text[at + len(old) :]


def rule_severity(dataset: str, rule: str, severity: str) -> str:
    """The packaged contract with the severity of one rule replaced: one line is another one."""
    old = "warning" if severity == "error" else "error"
    return edited(dataset, f"severity: {old}\n", f"severity: {severity}\n", after=f"- name: {rule}\n")


def line_of(text: str, wanted: str, after: str = "") -> int:
    """The line, from 1, of the first `wanted` behind the first `after`."""
    return text.count("\n", 0, text.index(wanted, text.index(after))) + 1
