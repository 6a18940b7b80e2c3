"""Polish public holidays. The law changes (Christmas Eve is one from 2025 on): the library keeps up with it."""

from typing import Final

import pyarrow as pa

HOLIDAY_SCHEMA: Final = pa.schema(
    [
        pa.field("date", pa.date32(), nullable=False),
        pa.field("name_pl", pa.string(), nullable=False),
        pa.field("name_en", pa.string(), nullable=False),
    ]
)


def public_holidays(first_year: int, last_year: int) -> pa.Table:
    """Return the public holidays of Poland from one year to another, both included, in `HOLIDAY_SCHEMA`, by date."""
    import holidays

    years = range(first_year, last_year + 1)
    polish = holidays.country_holidays("PL", years=years, language="pl")
    english = holidays.country_holidays("PL", years=years, language="en_US")
    dates = sorted(polish)
    return pa.table([dates, [polish[date] for date in dates], [english[date] for date in dates]], schema=HOLIDAY_SCHEMA)
