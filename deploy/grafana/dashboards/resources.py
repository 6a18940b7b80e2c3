"""Resources: disks, certificates, store, cache, circuit breakers, and the monitoring itself."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import Bounds, Query, assemble, figure, lines, states


def build() -> Dashboard:
    """Return the dashboard."""
    return assemble(
        "wrm-resources",
        "resources",
        "What the pipeline stands on and uses up.",
        "utc",
        {
            "Now": [
                figure(
                    "Free disk",
                    "Free share of the fullest file system that the pipeline writes to.",
                    "percentunit",
                    "min(wrm_disk_free_ratio)",
                    bounds=Bounds(0.2, 0.1, falling=True),
                    decimals=1,
                ),
                figure(
                    "Certificate",
                    "Days until the first certificate of store, Vault or public address ends.",
                    "d",
                    "(min(wrm_certificate_expiry_timestamp_seconds) - time()) / 86400",
                    bounds=Bounds(14, 3, falling=True),
                    decimals=0,
                ),
                figure(
                    "Open breakers",
                    "Circuit breakers that are open, by the state that runs share in Redis.",
                    "none",
                    "sum(max by (breaker) (wrm_breaker_open))",
                    bounds=Bounds(1, 2),
                ),
                figure(
                    "Received from the store",
                    "Bytes that all assets' newest steps together received.",
                    "bytes",
                    'sum(wrm_step_s3_bytes{direction="received"})',
                ),
                figure(
                    "Sent to the store",
                    "Bytes that all assets' newest steps together sent.",
                    "bytes",
                    'sum(wrm_step_s3_bytes{direction="sent"})',
                ),
                figure(
                    "Exporter",
                    "Seconds that one reading of the exporter takes.",
                    "s",
                    "max(wrm_exporter_scrape_seconds)",
                    bounds=Bounds(0.3, 5),
                    decimals=3,
                ),
            ],
            "Machine": [
                lines(
                    "Free disk",
                    "Free share of each file system that the pipeline writes to.",
                    "percentunit",
                    Query("min by (path) (wrm_disk_free_ratio)", "{{path}}"),
                    bounds=Bounds(0.1, 0.05, falling=True),
                ),
                lines(
                    "Certificates",
                    "Days until each certificate ends.",
                    "d",
                    Query(
                        "(min by (endpoint) (wrm_certificate_expiry_timestamp_seconds) - time()) / 86400",
                        "{{endpoint}}",
                    ),
                    bounds=Bounds(14, 3, falling=True),
                ),
            ],
            "Store and cache": [
                lines(
                    "S3 requests",
                    "Requests of all assets' newest steps together, by operation.",
                    "none",
                    Query("sum by (operation) (wrm_step_s3_requests)", "{{operation}}"),
                    stacked=True,
                ),
                lines(
                    "S3 bytes",
                    "Bytes of all assets' newest steps together, by direction.",
                    "bytes",
                    Query("sum by (direction) (wrm_step_s3_bytes)", "{{direction}}"),
                ),
                lines(
                    "S3 retries",
                    "Requests that all assets' newest steps together had to send again.",
                    "none",
                    Query("sum(wrm_step_s3_retries)", "retries"),
                ),
                lines(
                    "Cache",
                    "What all assets' newest steps together asked each tier of the cache for, and what it had.",
                    "none",
                    Query("sum by (tier, result) (wrm_step_cache_requests)", "{{tier}} {{result}}"),
                    stacked=True,
                ),
                lines(
                    "S3 requests saved",
                    "Requests that the cache made needless in all assets' newest steps together, by operation.",
                    "none",
                    Query("sum by (operation) (wrm_step_cache_s3_requests_saved)", "{{operation}}"),
                    stacked=True,
                ),
                lines(
                    "S3 bytes saved",
                    "Bytes that all assets' newest steps together found in the cache.",
                    "bytes",
                    Query("sum(wrm_step_cache_bytes_saved)", "found in the cache"),
                ),
            ],
            "Breakers and monitoring": [
                states(
                    "Circuit breakers",
                    "State that runs share in Redis; an open one lets one trial through at a time.",
                    Query("max by (breaker) (wrm_breaker_open)", "{{breaker}}"),
                    good=(0, "closed"),
                    bad=(1, "open"),
                ),
                states(
                    "Circuit breakers of steps",
                    "State at the end of each asset's newest step; the only one without Redis.",
                    Query("max by (asset, breaker) (wrm_step_breaker_open)", "{{asset}} {{breaker}}"),
                    good=(0, "closed"),
                    bad=(1, "open"),
                ),
                states(
                    "What Prometheus can read",
                    "Whether the last scrape of each job worked.",
                    Query("min by (job) (up)", "{{job}}"),
                    good=(1, "up"),
                    bad=(0, "down"),
                ),
                lines(
                    "Exporter",
                    "Seconds that one reading of the exporter takes; it must not grow with history.",
                    "s",
                    Query("max(wrm_exporter_scrape_seconds)", "reading"),
                ),
            ],
        },
    )
