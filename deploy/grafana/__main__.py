"""Write `json/` anew."""

from deploy.grafana.dashboards import JSON_DIRECTORY, all_dashboards

for path in JSON_DIRECTORY.glob("*.json"):
    path.unlink()
for name, text in all_dashboards().items():
    (JSON_DIRECTORY / name).write_text(text, encoding="utf-8")
