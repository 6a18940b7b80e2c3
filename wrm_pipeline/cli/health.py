"""`wrm health`: one look at every part, for people and for programs."""

import json
import sys
from dataclasses import asdict

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def health(*, as_json: bool) -> None:
    """Ask S3, Vault, Redis and Dagster's daemon whether they are there, and whether the data is fresh; within 2 s.

    Vault and Redis are asked when the settings name them. Exit code 1 when a part that is needed is down, or when
    nothing has come for hours; a warning leaves it at 0. `wrm doctor` looks closer at the store.
    """
    from wrm_pipeline.cli.metrics import open_instance
    from wrm_pipeline.operations.health import check_health, is_healthy
    from wrm_pipeline.settings import load_settings

    findings = check_health(load_settings(), open_instance)
    healthy = is_healthy(findings)
    if as_json:
        document = {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        from wrm_pipeline.cli.tables import print_findings

        print_findings(findings)
    if not healthy:
        sys.exit(1)
