"""Pipeline health: is everything at work, and since when is what is not."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import Bounds, Query, assemble, figure, lines, states

_RUNS = "dagster_pipeline_runs_total"
_FAILED = f'{_RUNS}{{status="failure"}}'
_ENDED = f'{_RUNS}{{status=~"success|failure"}}'
_DURATION = "sum by (le, pipeline_name) (rate(dagster_pipeline_duration_seconds_bucket[1h]))"


def build() -> Dashboard:
    """Return the dashboard."""
    return assemble(
        "wrm-pipeline-health",
        "pipeline health",
        "Runs, queue, daemon and what the exporter reads. Start here when an alert came.",
        "utc",
        {
            "Now": [
                figure(
                    "Newest snapshot",
                    "How old the newest snapshot in the lake is. One is due every 5 minutes; 15 minutes are allowed, "
                    "2 hours are the limit.",
                    "s",
                    "time() - max(wrm_newest_snapshot_timestamp_seconds)",
                    bounds=Bounds(900, 7200),
                    decimals=0,
                ),
                figure(
                    "Successful runs, 24 h",
                    "Share of the runs that ended in the last 24 hours which succeeded; canceled ones are left out.",
                    "percentunit",
                    f'sum(increase({_RUNS}{{status="success"}}[24h])) / sum(increase({_ENDED}[24h]))',
                    bounds=Bounds(0.98, 0.8, falling=True),
                    decimals=1,
                ),
                figure(
                    "Alerts",
                    "Alerts that fire now, those that Alertmanager holds back included.",
                    "none",
                    'count(ALERTS{alertstate="firing"}) or vector(0)',
                    bounds=Bounds(1, 3),
                ),
                figure(
                    "Runs at work",
                    "Runs that are starting, started or being canceled.",
                    "none",
                    "sum(dagster_active_jobs)",
                ),
                figure(
                    "Oldest in the queue",
                    "How long the oldest queued run has been waiting; 0 without a queue. 15 minutes are the limit.",
                    "s",
                    "max(dagster_queue_oldest_seconds)",
                    bounds=Bounds(300, 900),
                    decimals=0,
                ),
                figure(
                    "Daemon's heartbeat",
                    "Age of the oldest heartbeat of the daemon's loops; one is due every 30 seconds.",
                    "s",
                    "time() - min(dagster_daemon_heartbeat_timestamp_seconds)",
                    bounds=Bounds(120, 300),
                    decimals=0,
                ),
            ],
            "Runs": [
                lines(
                    "Runs that ended in an hour",
                    "Runs that ended in the hour before each moment, by how they ended.",
                    "none",
                    Query(f"sum by (status) (increase({_RUNS}[1h]))", "{{status}}"),
                ),
                lines(
                    "Share that failed",
                    "Share of a pipeline's runs that failed, in the hour before each moment. Above 20 %, three or more "
                    "of them make an alert.",
                    "percentunit",
                    Query(
                        f"sum by (pipeline_name) (increase({_FAILED}[1h]))"
                        f" / (sum by (pipeline_name) (increase({_ENDED}[1h])) > 0)",
                        "{{pipeline_name}}",
                    ),
                    bounds=Bounds(0.2, 0.8),
                ),
                lines(
                    "How long runs take",
                    "Seconds that half of the runs, and 95 % of them, stay under; runs of the hour before each moment.",
                    "s",
                    Query(f"histogram_quantile(0.5, {_DURATION})", "{{pipeline_name}} p50"),
                    Query(f"histogram_quantile(0.95, {_DURATION})", "{{pipeline_name}} p95"),
                ),
                lines(
                    "At work and waiting",
                    "Runs at work by pipeline, and runs that wait in the queue.",
                    "none",
                    Query("sum by (pipeline_name) (dagster_active_jobs)", "{{pipeline_name}}"),
                    Query("max(dagster_queued_runs)", "queued"),
                ),
            ],
            "Parts": [
                lines(
                    "Age of the newest snapshot",
                    "A saw of 5 minutes is healthy: each tooth is a poll.",
                    "s",
                    Query("time() - max(wrm_newest_snapshot_timestamp_seconds)", "age"),
                    bounds=Bounds(900, 7200),
                ),
                lines(
                    "Age of the daemon's heartbeats",
                    "Seconds since each loop of Dagster's daemon last said that it lives.",
                    "s",
                    Query("time() - max by (daemon) (dagster_daemon_heartbeat_timestamp_seconds)", "{{daemon}}"),
                    bounds=Bounds(120, 300),
                ),
                states(
                    "What the exporter can read",
                    "Whether the last reading of event log, lake, Vault and Redis worked.",
                    Query("min by (source) (wrm_exporter_source_up)", "{{source}}"),
                    good=(1, "up"),
                    bad=(0, "down"),
                ),
                lines(
                    "Age of the exporter's readings",
                    "Seconds since the last good reading of each source; what is derived from it is as old.",
                    "s",
                    Query("time() - max by (source) (wrm_exporter_source_timestamp_seconds)", "{{source}}"),
                    bounds=Bounds(300, 900),
                ),
            ],
        },
    )
