"""The profile of a day, as data and as a page, with its drift against the week before."""

import datetime as dt
from dataclasses import dataclass
from typing import Final

from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.lake.object_store import ObjectInfo
from wrm_pipeline.layers.derived import Inputs, past_days
from wrm_pipeline.layers.trust import require_trusted
from wrm_pipeline.reports.profile_page import render
from wrm_pipeline.transform.profile import DayProfile, profile_day, summarise, to_json
from wrm_pipeline.transform.schema import ENHANCED

# Raise it whenever the same enhanced days give another profile or page.
PROFILE_CODE_VERSION: Final = "1"
TRAILING_DAYS: Final = 7


@dataclass(frozen=True)
class BuiltProfile:
    """A day's profile as it lies in the lake: its data, its page, and the days it was made with."""

    profile: DayProfile
    data: ObjectInfo
    page: ObjectInfo
    inputs: Inputs


def build_profile(lake: Lake, contracts: Contracts, day: dt.date) -> BuiltProfile:
    """Profile a day and store JSON and page, in place of earlier ones.

    Raises:
        LayerError: the day is not there, or a blocking check fails.
    """
    stored = require_trusted(lake, contracts, day)
    week = list(past_days(lake, contracts, day, TRAILING_DAYS, ENHANCED.names, summarise))
    profile = profile_day(stored.rows, day, [summary for _, _, summary in week])
    inputs = Inputs((*((past, etag) for past, etag, _ in week), (day, stored.info.etag)), PROFILE_CODE_VERSION)
    made_from = {"inputs": inputs.as_json().decode()}
    page = render(profile, contracts.enhanced).encode()
    data = lake.store.put(lake.keys.profile(day), to_json(profile), content_type="application/json", metadata=made_from)
    shown = lake.store.put(
        lake.keys.profile_page(day), page, content_type="text/html; charset=utf-8", metadata=made_from
    )
    return BuiltProfile(profile, data, shown, inputs)
