"""What the result of a check shows: figures, numbers of the contract, failing rows as a table."""

import datetime as dt

import dagster as dg

from wrm_pipeline.checks.metadata import describe, judgment_metadata, summary_metadata, table, threshold
from wrm_pipeline.transform.quality import Judgment
from wrm_pipeline_tests.fixtures.snapshots import CONTRACTS

RATIO, UNIQUE = (CONTRACTS.enhanced.rules[name] for name in ("dead_letter_ratio", "unique"))


def test_a_threshold_is_the_contracts_numbers_by_name() -> None:
    assert threshold(RATIO) == "warn_above 0.05, block_above 0.2"
    assert describe(RATIO) == f"{RATIO.description} (warn_above 0.05, block_above 0.2)"
    assert describe(UNIQUE) == UNIQUE.description


def test_the_formula_stands_beside_the_five_scores_alone() -> None:
    scores = {
        rule.name
        for contract in CONTRACTS
        for rule in contract.rules.values()
        if "The share of rows (kept and dead)" in describe(rule)
    }

    assert scores == {"completeness", "accuracy", "consistency", "timeliness", "validity"}


def test_cells_are_what_a_table_can_show_and_columns_those_of_any_row() -> None:
    noon = dt.datetime(2025, 5, 12, 12, tzinfo=dt.UTC)

    shown = table(
        [
            {"station": "<b>Rynek</b> | x", "rows": 2, "share": 0.5, "at": noon, "blocks": True},
            {"station": None, "rows": 3, "share": 1.5, "day": noon.date(), "blocks": False, "flags": ["off_zone"]},
        ]
    )

    assert isinstance(shown, dg.TableMetadataValue)
    assert {column.name: column.type for column in shown.schema.columns} == {
        "station": "string",
        "rows": "int",
        "share": "float",
        "at": "string",
        "blocks": "bool",
        "day": "string",
        "flags": "string",
    }
    first, second = (record.data for record in shown.records)
    assert first["station"] == "<b>Rynek</b> | x"  # the UI shows a cell as text
    assert (first["at"], first["day"], first["flags"]) == ("2025-05-12 12:00:00 UTC", "", "")
    assert (second["station"], second["day"], second["flags"]) == ("", "2025-05-12", "['off_zone']")


def test_a_judgment_shows_its_day_figures_numbers_dimension_and_line() -> None:
    judgment = Judgment(RATIO, passed=True, summary="Fine.", figures={"ratio": 0.01})

    assert judgment_metadata(judgment, "2025-05-12") == {
        "partition": "2025-05-12",
        "ratio": 0.01,
        "threshold": "warn_above 0.05, block_above 0.2",
        "dimension": "validity",
        "rule": RATIO.place,
    }
    assert "failing" in judgment_metadata(Judgment(UNIQUE, False, "Two.", failing=({"rows": 2},)), "2025-05-12")


def test_a_run_over_many_days_shows_those_that_fail() -> None:
    judgments = {
        "2025-05-12": Judgment(RATIO, passed=True, summary="Fine."),
        "2025-05-13": Judgment(RATIO, passed=False, summary="Six of a hundred."),
        "2025-05-14": Judgment(RATIO, passed=False, summary="A quarter.", blocks=True),
    }

    metadata = summary_metadata(judgments)

    assert (metadata["days"], metadata["days_failed"], metadata["days_blocked"]) == (3, 2, 1)
    assert [dict(record.data) for record in metadata["failing"].records] == [
        {"day": "2025-05-13", "blocks": False, "why": "Six of a hundred."},
        {"day": "2025-05-14", "blocks": True, "why": "A quarter."},
    ]
