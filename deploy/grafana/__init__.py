"""Grafana dashboards as code: `python -m deploy.grafana` writes `json/`, which is what Grafana reads."""
