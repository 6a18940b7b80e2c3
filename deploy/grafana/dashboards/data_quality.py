"""Data quality: is what comes whole, does it change, what is set aside, which checks fail."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import Bounds, Query, assemble, bars, figure, lines, listing


def build() -> Dashboard:
    """Return the dashboard."""
    return assemble(
        "wrm-data-quality",
        "data quality",
        "Dead letters, coverage, whole and moving snapshots, checks and nulls. Bounds are those of the contracts.",
        "utc",
        {
            "Now": [
                figure(
                    "Dead letters",
                    "Share of the newest UTC day's rows that were set aside. 5 % warns, 20 % blocks the day.",
                    "percentunit",
                    "max(wrm_dead_letter_ratio)",
                    bounds=Bounds(0.05, 0.2),
                    decimals=2,
                ),
                figure(
                    "Waiting to be redriven",
                    "Dead rows of the newest 7 UTC days that wait to be redriven.",
                    "short",
                    'sum(wrm_dead_letters{status="pending_reprocessing"})',
                ),
                figure(
                    "Coverage, 24 h",
                    "Share of the newest 24 hours that snapshots cover; at least 90 % are expected.",
                    "percentunit",
                    "min(wrm_coverage_ratio)",
                    bounds=Bounds(0.98, 0.9, falling=True),
                    decimals=1,
                ),
                figure(
                    "Stations in the snapshot",
                    "Stations of the newest snapshot as a share of the day's median; below 90 % it is partial.",
                    "percentunit",
                    "min(wrm_newest_snapshot_stations / wrm_usual_snapshot_stations)",
                    bounds=Bounds(0.98, 0.9, falling=True),
                    decimals=1,
                ),
                figure(
                    "Unchanged",
                    "How long nothing in the snapshots has changed. By day half an hour means a feed that stands.",
                    "s",
                    "max(wrm_snapshot_unchanged_seconds)",
                    bounds=Bounds(900, 1800),
                    decimals=0,
                ),
                figure(
                    "Checks that fail",
                    "Asset checks whose newest evaluation did not pass, warnings included.",
                    "none",
                    "count(dagster_asset_check_passed == 0) or vector(0)",
                    bounds=Bounds(1, 5),
                ),
            ],
            "Dead letters": [
                lines(
                    "By rule",
                    "Dead rows of the newest 7 UTC days by the rule they broke.",
                    "short",
                    Query("sum by (rule) (wrm_dead_letters)", "{{rule}}"),
                    stacked=True,
                ),
                lines(
                    "By status",
                    "Dead rows of the newest 7 UTC days: waiting, brought back, given up on.",
                    "short",
                    Query("sum by (status) (wrm_dead_letters)", "{{status}}"),
                    stacked=True,
                ),
                lines(
                    "Share of rows",
                    "Share of the newest UTC day's rows that were set aside.",
                    "percentunit",
                    Query("max(wrm_dead_letter_ratio)", "dead rows"),
                    bounds=Bounds(0.05, 0.2),
                ),
                lines(
                    "Left out by a step",
                    "Rows that the newest step of each asset did not keep: duplicates, and rows that broke a rule.",
                    "short",
                    Query('sum by (asset, rule) (wrm_step_rows{rule!="kept"})', "{{asset}} {{rule}}"),
                ),
            ],
            "Snapshots": [
                lines(
                    "Stations",
                    "Stations of the newest snapshot, and what is usual on this day (median).",
                    "short",
                    Query("min(wrm_newest_snapshot_stations)", "newest"),
                    Query("max(wrm_usual_snapshot_stations)", "usual"),
                ),
                lines(
                    "Rows",
                    "Rows of the newest snapshot: stations and free-standing bikes.",
                    "short",
                    Query("max(wrm_newest_snapshot_rows)", "rows"),
                ),
                lines(
                    "Unchanged",
                    "How long nothing in the snapshots has changed. Nights are calm, days are not.",
                    "s",
                    Query("max(wrm_snapshot_unchanged_seconds)", "unchanged"),
                    bounds=Bounds(1800, 14_400),
                ),
                lines(
                    "Coverage of 24 hours",
                    "Share of the 24 hours before each moment that snapshots cover.",
                    "percentunit",
                    Query("min(wrm_coverage_ratio)", "coverage"),
                    bounds=Bounds(0.98, 0.9, falling=True),
                ),
            ],
            "Checks and columns": [
                listing(
                    "Checks",
                    "Every asset check's newest evaluation, failing ones first. ERROR blocks what is downstream.",
                    "min by (asset_name, check_name, severity) (dagster_asset_check_passed)",
                    {"asset_name": "Asset", "check_name": "Check", "severity": "Severity"},
                    good=(1, "passed"),
                    bad=(0, "failed"),
                ),
                bars(
                    "Nulls",
                    "Percent of nulls in the columns that have most of them, by asset. A station has no battery: many "
                    "nulls are right, a change is news.",
                    "percent",
                    Query(
                        "topk(15, max by (asset_name, column_name) (dagster_asset_null_percentage))",
                        "{{asset_name}} {{column_name}}",
                    ),
                ),
            ],
        },
    )
