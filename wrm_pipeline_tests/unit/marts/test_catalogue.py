"""The catalogue: what the package's tables say of themselves, and clear words about what is wrong with a spec."""

import re
from pathlib import Path

import pytest

from wrm_pipeline.marts.catalogue import SPEC_FOLDER, Grain, MartDefinitionError, catalogue, published, read_catalogue

SPEC = """
name: t
grain: day
published: true
key: [a]
title: {en: T, pl: T}
description: {en: A table., pl: Tabela.}
columns:
  - {name: a, type: INTEGER, en: A, pl: A}
"""


def read(tmp_path: Path, spec: str, sql: str | None = "SELECT 1::INTEGER AS a", name: str = "t") -> None:
    (tmp_path / f"{name}.yaml").write_text(spec)
    if sql is not None:
        (tmp_path / f"{name}.sql").write_text(sql)
    read_catalogue(tmp_path, tmp_path)


def test_each_table_comes_after_those_it_needs() -> None:
    names = list(catalogue())

    for mart in catalogue().values():
        assert all(names.index(need) < names.index(mart.name) for need in mart.needs)


def test_the_tables_that_users_know_are_there_with_a_meaning_in_both_languages() -> None:
    assert {mart.name for mart in published()} >= {
        "dim_station",
        "dim_date",
        "fct_station_hour",
        "fct_station_outage",
        "fct_bike_move",
        "fct_fleet_day",
        "mart_station_reliability",
        "mart_system_hour",
        "mart_density_grid",
        "mart_data_quality_day",
        "mart_forecast_baseline",
        "mv_station_latest",
        "mv_daily_aggregates",
    }
    for mart in published():
        for column in mart.columns:
            assert column.en.strip(), f"{mart.name}.{column.name}"
            assert column.pl.strip(), f"{mart.name}.{column.name}"
        assert set(mart.description) == {"en", "pl"}


def test_what_a_column_refers_to_is_there() -> None:
    for mart in catalogue().values():
        for column in mart.columns:
            if column.references:
                table, _, name = column.references.partition(".")
                assert name in catalogue()[table].types, f"{mart.name}.{column.name}"


def test_sql_reads_the_tables_that_its_spec_names_and_no_others() -> None:
    names = set(catalogue())
    for mart in catalogue().values():
        code = re.sub(r"--.*", "", mart.sql)
        code = re.sub(r"getvariable\('[^']*'\)", "", code)
        # previous_… is of the day before, and so no need of this one.
        read = {name for name in names if re.search(rf"\b(newest_)?{name}\b", code)} - {mart.name}
        assert read == set(mart.needs), mart.name


def test_nothing_internal_is_published() -> None:
    assert all(mart.grain not in (Grain.STATE, Grain.STAGING) for mart in published())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (SPEC.replace("grain: day", "grain: week"), "grain"),
        (SPEC.replace("type: INTEGER", "type: INT"), "type"),
        (SPEC.replace("key: [a]", "key: [b]"), "no such column: b"),
        (SPEC.replace("name: t\n", "name: other\n"), "the name in it is other"),
        (SPEC.replace("grain: day", "grain: state"), "internal"),
        (SPEC + "  - {name: a, type: INTEGER, en: A, pl: A}\n", "a column occurs twice"),
        (SPEC + "needs: [nothing]\n", "needs nothing, which there is not"),
        (SPEC + "recency_column: a\n", "go together"),
        (SPEC + "colour: red\n", "colour"),
        ("a: [b", "t.yaml"),
    ],
)
def test_a_wrong_spec_is_named_with_what_is_wrong(tmp_path: Path, spec: str, said: str) -> None:
    with pytest.raises(MartDefinitionError, match=re.escape(said)):
        read(tmp_path, spec)


def test_a_spec_without_sql_is_named(tmp_path: Path) -> None:
    with pytest.raises(MartDefinitionError, match=r"there is no t\.sql"):
        read(tmp_path, SPEC, sql=None)


def test_tables_that_need_each_other_are_named(tmp_path: Path) -> None:
    (tmp_path / "u.yaml").write_text(SPEC.replace("name: t", "name: u") + "needs: [t]\n")
    (tmp_path / "u.sql").write_text("FROM t")

    with pytest.raises(MartDefinitionError, match="circle"):
        read(tmp_path, SPEC + "needs: [u]\n")


def test_the_specs_are_in_the_package() -> None:
    assert sorted(path.stem for path in SPEC_FOLDER.glob("*.yaml")) == sorted(catalogue())
