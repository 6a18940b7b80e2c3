"""The days of the lake."""

import datetime as dt

from dagster import DailyPartitionsDefinition

FIRST_DAY = dt.date(2025, 5, 1)

# UTC, as the keys are. The day that is still running is a partition too (end_offset): its snapshots are processed as
# they come.
daily_partitions = DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone="UTC", end_offset=1)
