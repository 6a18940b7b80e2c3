"""The five dashboards, one module each, and their text as it lies in `json/`."""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.dashboards import asset_performance, business, data_quality, pipeline_health, resources

JSON_DIRECTORY: Final = Path(__file__).resolve().parents[1] / "json"


def all_dashboards() -> dict[str, str]:
    """Return the text of each dashboard by the name of its file."""
    modules = (pipeline_health, asset_performance, data_quality, resources, business)
    return {
        f"{module.__name__.rpartition('.')[2]}.json": json.dumps(
            module.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False
        )
        + "\n"
        for module in modules
    }
