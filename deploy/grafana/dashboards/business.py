"""Business: bikes and stations of the newest snapshot, on the city's clock."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import Bounds, Query, assemble, bars, figure, lines

# Stations without docks can be neither empty nor full.
_WITH_DOCKS = 'sum(max by (state) (wrm_stations{state!="no_docks"}))'
_EMPTY = f'sum(max by (state) (wrm_stations{{state="empty"}})) / {_WITH_DOCKS}'
_FULL = f'sum(max by (state) (wrm_stations{{state=~"full|overfull"}})) / {_WITH_DOCKS}'


def build() -> Dashboard:
    """Return the dashboard."""
    return assemble(
        "wrm-business",
        "business",
        "Bikes and stations as the newest snapshot shows them, every 5 minutes. Single stations are on the site.",
        "Europe/Warsaw",
        {
            "Now": [
                figure(
                    "Bikes",
                    "Bikes in the newest snapshot: at stations, standing free, and off zone (depots).",
                    "short",
                    "sum(max by (place) (wrm_bikes))",
                ),
                figure(
                    "Bikes to rent",
                    "Bikes at stations and standing free in the service area.",
                    "short",
                    'sum(max by (place) (wrm_bikes{place=~"station|free"}))',
                ),
                figure(
                    "Stations",
                    "Stations in the newest snapshot, those without docks included.",
                    "short",
                    "sum(max by (state) (wrm_stations))",
                ),
                figure(
                    "Stations without a bike",
                    "Share of the stations with docks that have no bike now.",
                    "percentunit",
                    _EMPTY,
                    bounds=Bounds(0.15, 0.3),
                    decimals=1,
                ),
                figure(
                    "Full stations",
                    "Share of the stations with docks that have as many bikes as docks, or more. Those stand beside.",
                    "percentunit",
                    _FULL,
                    decimals=1,
                ),
                figure(
                    "Age of these numbers",
                    "How old the newest snapshot is.",
                    "s",
                    "time() - max(wrm_newest_snapshot_timestamp_seconds)",
                    bounds=Bounds(900, 7200),
                    decimals=0,
                ),
            ],
            "Over the day": [
                lines(
                    "Stations by state",
                    "How many stations are empty, low, fine, full, overfull (more bikes than docks) or without docks.",
                    "short",
                    Query("max by (state) (wrm_stations)", "{{state}}"),
                    stacked=True,
                ),
                lines(
                    "Bikes by place",
                    "Bikes at stations, standing free in the service area, and off zone.",
                    "short",
                    Query("max by (place) (wrm_bikes)", "{{place}}"),
                    stacked=True,
                ),
                lines(
                    "Empty and full",
                    "Shares of the stations with docks that have no bike, and that have no free dock.",
                    "percentunit",
                    Query(_EMPTY, "empty"),
                    Query(_FULL, "full"),
                ),
                bars(
                    "Stations now",
                    "Stations of the newest snapshot by state.",
                    "short",
                    Query("max by (state) (wrm_stations)", "{{state}}"),
                ),
            ],
        },
        hours=48,
    )
