"""The city's clock. Habits, daytime and rush hours follow it; everything that is stored is UTC."""

from typing import Final
from zoneinfo import ZoneInfo

LOCAL_ZONE: Final = ZoneInfo("Europe/Warsaw")
