"""Asset performance: what each asset's newest step cost."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import Bounds, Query, assemble, bars, figure, lines, states


def build() -> Dashboard:
    """Return the dashboard."""
    return assemble(
        "wrm-asset-performance",
        "asset performance",
        "What each asset's steps take and ask for, as they push it when they end, also failing ones.",
        "utc",
        {
            "Now": [
                figure(
                    "Slowest step",
                    "Seconds that the slowest of all assets' newest steps took. A new snapshot comes every 5 minutes.",
                    "s",
                    "max(wrm_step_seconds)",
                    bounds=Bounds(60, 300),
                    decimals=2,
                ),
                figure(
                    "Failed steps",
                    "Assets whose newest step failed.",
                    "none",
                    "count(wrm_step_succeeded == 0) or vector(0)",
                    bounds=Bounds(1, 2),
                ),
                figure(
                    "S3 requests",
                    "Requests to the store of all assets' newest steps together.",
                    "none",
                    "sum(wrm_step_s3_requests)",
                ),
                figure(
                    "S3 retries",
                    "Requests to the store that were sent again, in all assets' newest steps together.",
                    "none",
                    "sum(wrm_step_s3_retries)",
                    bounds=Bounds(1, 10),
                ),
                figure(
                    "Answered by the cache",
                    "Share of what the newest steps asked the cache for that it had, whichever tier answered.",
                    "percentunit",
                    'sum(wrm_step_cache_requests{result="hit"}) / sum(wrm_step_cache_requests)',
                    decimals=1,
                ),
                figure(
                    "Feed",
                    "Seconds that the last poll of the feed took, retries included.",
                    "s",
                    "max(wrm_step_feed_seconds)",
                    bounds=Bounds(5, 20),
                    decimals=2,
                ),
            ],
            "Assets": [
                bars(
                    "Newest step",
                    "Seconds that the newest step of each asset took.",
                    "s",
                    Query("max by (asset) (wrm_step_seconds)", "{{asset}}"),
                ),
                bars(
                    "Time since the last success",
                    "Seconds since each asset was last materialized. Those of the night are up to a day old.",
                    "s",
                    Query("time() - max by (asset_name) (dagster_asset_last_success_timestamp)", "{{asset_name}}"),
                    bounds=Bounds(90_000, 180_000),
                ),
                lines(
                    "Seconds a step",
                    "How long the newest step of each asset took, over time.",
                    "s",
                    Query("max by (asset) (wrm_step_seconds)", "{{asset}}"),
                ),
                states(
                    "How steps ended",
                    "Whether the newest step of each asset succeeded.",
                    Query("min by (asset) (wrm_step_succeeded)", "{{asset}}"),
                    good=(1, "succeeded"),
                    bad=(0, "failed"),
                ),
                lines(
                    "Rows",
                    "Rows of each asset's newest materialization (of a day's object for assets by day).",
                    "short",
                    Query("max by (asset_name) (dagster_asset_record_count)", "{{asset_name}}"),
                ),
                lines(
                    "Feed",
                    "Seconds that a poll of the feed took, retries included.",
                    "s",
                    Query("max by (asset) (wrm_step_feed_seconds)", "{{asset}}"),
                ),
            ],
            "Store": [
                lines(
                    "S3 requests a step",
                    "Requests of each asset's newest step.",
                    "none",
                    Query("sum by (asset) (wrm_step_s3_requests)", "{{asset}}"),
                ),
                lines(
                    "S3 bytes a step",
                    "Bytes that each asset's newest step received and sent.",
                    "bytes",
                    Query("sum by (asset, direction) (wrm_step_s3_bytes)", "{{asset}} {{direction}}"),
                ),
                lines(
                    "Answered by the cache",
                    "Share of what each asset's newest step asked the cache for that it had.",
                    "percentunit",
                    Query(
                        'sum by (asset) (wrm_step_cache_requests{result="hit"})'
                        " / sum by (asset) (wrm_step_cache_requests)",
                        "{{asset}}",
                    ),
                ),
                lines(
                    "S3 retries a step",
                    "Requests that each asset's newest step had to send again.",
                    "none",
                    Query("sum by (asset) (wrm_step_s3_retries)", "{{asset}}"),
                ),
            ],
        },
    )
