"""Deleting what older deployments left: objects with a timestamp in their names, once the fixed key holds the day."""

import logging

from wrm_pipeline.lake.keys import Layer, day_of
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.transform.schema import ENHANCED, PROCESSED

_log = logging.getLogger(__name__)
_SCHEMAS = {Layer.PROCESSED: PROCESSED, Layer.ENHANCED: ENHANCED}


def remove_superseded(lake: Lake) -> list[str]:
    """Delete older deployments' objects of each day whose object at the fixed key can be read; return their keys.

    Processed objects of a day without raw are the only copy of its rows and stay.
    """
    removed: list[str] = []
    for layer in Layer:
        for folder in lake.store.list_folders(lake.keys.layer_root(layer)):
            day = day_of(folder)
            if day is None:
                continue
            older = [i.key for i in lake.store.list(folder) if lake.keys.is_legacy(layer, i.key)]
            if older and lake.read_day(layer, day, _SCHEMAS[layer]) is not None:
                for key in older:
                    lake.store.delete(key)
                removed += older
                _log.info("%s of %s: %d objects of an older deployment removed", layer, day, len(older))
    return removed
