"""`wrm lineage`: what an object, or a table's day, was made from, back to the raw objects."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from wrm_pipeline.operations.lineage_walk import Node

_COLOURS: Final = {"as recorded": "green", "not recorded": "dim", "new": "yellow"}
# Of many objects of a kind the first and the last ones are shown, and those in between that are not as they should be.
_SHOWN_AT_EACH_END: Final = 3
_MORE_THAN: Final = 12
_DIGITS: Final = 12


@click.command()
@click.argument("key")
@click.argument("partition", required=False)
@click.option("--all", "show_all", is_flag=True, help="Show each raw object, not only the first and last of many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with everything, instead of a tree.")
def lineage(key: str, partition: str | None, *, show_all: bool, as_json: bool) -> None:
    """Walk from KEY back to the raw objects that it was made from, with their versions.

    KEY is an object's key, its s3:// address, or a table with its day as PARTITION, such as `mart_system_hour
    2025-05-12`, `fct_station_hour/dt=2025-05-12` or `enhanced 2025-05-12`.

    What lies in the lake otherwise than it is recorded is marked: stale, missing, damaged, new.
    """
    from wrm_pipeline.operations.lineage_walk import walk
    from wrm_pipeline.resources.object_store import open_lake
    from wrm_pipeline.vault.run_settings import load_run_settings

    lake = open_lake(load_run_settings())
    with lake.store:
        found = walk(lake, key, partition)
    if as_json:
        from wrm_pipeline.cli.tables import to_json

        click.echo(to_json(asdict(found)))
        return
    from rich.console import Console

    console = Console()
    console.print(_tree(found, lake.keys.prefix, show_all=show_all))
    odd = [node for node in found.all() if node.state not in {"as recorded", "not recorded"}]
    console.print(f"Objects that are not as they are recorded: {len(odd)}." if odd else "All is as it is recorded.")


def _tree(node: "Node", prefix: str, *, show_all: bool) -> "Tree":
    from rich.tree import Tree

    tree = Tree(_words(node, prefix), guide_style="dim")
    _grow(tree, node.inputs, prefix, show_all=show_all)
    return tree


def _grow(tree: "Tree", inputs: Iterable["Node"], prefix: str, *, show_all: bool) -> None:
    for shown in _chosen(list(inputs), show_all=show_all):
        if isinstance(shown, int):
            tree.add(f"[dim]… {shown} more, as recorded (--all shows them)[/]")
        else:
            _grow(tree.add(_words(shown, prefix)), shown.inputs, prefix, show_all=show_all)


def _chosen(nodes: "list[Node]", *, show_all: bool) -> "Iterator[Node | int]":
    """Yield nodes, and for each run of those that are left out their number."""
    left_out = 0
    for position, node in enumerate(nodes):
        at_an_end = position < _SHOWN_AT_EACH_END or position >= len(nodes) - _SHOWN_AT_EACH_END
        odd = node.state != "as recorded" or node.fault
        if show_all or len(nodes) <= _MORE_THAN or at_an_end or odd:
            if left_out:
                yield left_out
                left_out = 0
            yield node
        else:
            left_out += 1


def _words(node: "Node", prefix: str) -> "Text":
    """Return a node as some short lines: what it is, its version and state, and what there is to say."""
    from rich.text import Text

    name = node.key.removeprefix(prefix)
    if node.kind == "raw":  # its folder is that of its day
        name = name.rpartition("/")[2]
    text = Text(name, style="bold" if node.inputs else "")
    facts = [
        *([f"{node.at:%Y-%m-%d %H:%M:%S} UTC"] if node.at is not None else []),
        *([f"{node.rows:,} rows"] if node.rows is not None else []),
        *([f"{node.size:,} bytes"] if node.size is not None else []),
    ]
    text.append(f"\n{node.state}", style=_COLOURS.get(node.state, "red"))
    text.append(f" · {' · '.join(facts)}" if facts else "", style="dim")
    text.append(f"\n{_versions(node)}", style="dim")
    if node.sha256:
        text.append(f" · sha256 {node.sha256[:_DIGITS]}", style="dim")
    if node.fault:
        text.append(f"\nset aside: {node.fault}", style="yellow")
    if node.runs:
        text.append(f"\nrun {', '.join(node.runs)}", style="dim")
    if node.note:
        text.append(f"\n{node.note}")
    return text


def _versions(node: "Node") -> str:
    recorded, stored = ((etag or "none")[:_DIGITS] for etag in (node.recorded, node.stored))
    if node.recorded is None or recorded == stored:
        return f"etag {stored}"
    return f"etag recorded {recorded}, stored {stored}"
