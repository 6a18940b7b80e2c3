"""Bounds and thresholds of the trade, each with its reason. Code elsewhere holds none."""

from typing import Final

# No station of the system was ever seen outside; a depot near 52.28, 21.01 is (385 of 513 bikes on 2025-05-31).
SERVICE_AREA_LAT: Final = (51.0, 51.2)
SERVICE_AREA_LON: Final = (16.8, 17.2)

LATITUDE_LIMIT: Final = 90.0
LONGITUDE_LIMIT: Final = 180.0

# A row's own time before 2000 or from 2100 on is a broken clock, not an observation. Epoch seconds, UTC.
EPOCH_RANGE_S: Final = (946_684_800, 4_102_444_800)

BATTERY_RANGE: Final = (0, 100)
BATTERY_UNKNOWN: Final = -1

# Rows of a snapshot differ from its fetch by milliseconds; an hour means that the source or a clock stands still.
ROW_TIME_TOLERANCE_S: Final = 3_600
