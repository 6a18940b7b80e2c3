"""`wrm run`: some snapshots through the whole pipeline, in this process, and a table of what arrived."""

import datetime as dt

from dagster import DagsterInstance, SensorResult, build_sensor_context
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wrm_pipeline.automation.sensors import wrm_stations_raw_data_sensor
from wrm_pipeline.cli.local_stack import LocalStack, local_stack
from wrm_pipeline.cli.tables import print_status
from wrm_pipeline.definitions import build_defs
from wrm_pipeline.feed.simulator import BadDay
from wrm_pipeline.layers.report import LayerError
from wrm_pipeline.layers.status import lake_status
from wrm_pipeline.operations.lineage import publish_lineage
from wrm_pipeline.resources.object_store import ObjectStoreResource, open_lake
from wrm_pipeline.telemetry import logs
from wrm_pipeline.vault.run_settings import load_run_settings

_SIMULATED_SNAPSHOTS = 6
_SIMULATED_BAD_ROWS = 3
# Five simulated minutes pass in the second or so that an ingest run takes.
_SIMULATED_SPEED = 300.0
# Dagster's account of each step goes to its event log, for the UI; a terminal wants the result.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_once(snapshots: int | None) -> None:
    """Fetch, process, show.

    Raises:
        LayerError: a run failed; the message is the run's.
    """
    console = Console()
    with logs.quiet(), local_stack(speed=_SIMULATED_SPEED, bad_rows=_SIMULATED_BAD_ROWS) as stack:
        console.print(f"store {stack.store_address}{' (SeaweedFS, started here)' if stack.store else ''}")
        console.print(f"feed  {stack.feed_address}{' (simulated, started here)' if stack.simulator else ''}")
        count = snapshots or (_SIMULATED_SNAPSHOTS if stack.simulator else 1)
        with DagsterInstance.from_config(str(stack.dagster_home)) as instance, _progress(console) as progress:
            runs = _Demonstration(stack, instance, progress).run(count)
            settings = load_run_settings()
            lake = open_lake(settings)
            for run_id in runs:  # as the daemon's sensor does
                publish_lineage(lake, instance, run_id, settings)
        with lake.store:
            print_status(lake_status(lake, dt.datetime.now(dt.UTC), days=3), console)
        # Paths on lines of their own, so that a narrow terminal does not break them.
        console.print(f"site   {settings.wrm_site_dir}/index.html", soft_wrap=True)
        console.print(f"marts  {settings.wrm_duckdb_path}", soft_wrap=True)
        console.print("Look at them with `make up`, which serves the site, and with `wrm sql`.", style="dim")
        if stack.store is not None:
            console.print("`make up` shows these runs and this lake in the Dagster UI.", style="dim")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


class _Demonstration:
    def __init__(self, stack: LocalStack, instance: DagsterInstance, progress: Progress) -> None:
        self.stack = stack
        self.instance = instance
        self.progress = progress
        self.definitions = build_defs()
        self.runs: list[str] = []

    def run(self, snapshots: int) -> list[str]:
        """Do it all, and return the ids of the runs."""
        for _ in self.progress.track(range(snapshots), description="fetching snapshots"):
            self._execute("wrm_stations_ingest_job")
        if self.stack.simulator is not None:
            self._show_a_bad_day()
        days = self._days_that_the_sensor_asks_for()
        for day in self.progress.track(days, description="processing days"):
            self._execute("wrm_stations_processing_job", partition=day)
        for job in self.progress.track(["wrm_stations_marts_job"], description="making marts and site"):
            self._execute(job)
        return self.runs

    def _execute(self, job: str, partition: str | None = None) -> None:
        """Run a job here.

        Raises:
            LayerError: it failed.
        """
        result = self.definitions.resolve_job_def(job).execute_in_process(
            run_config=_QUIET, instance=self.instance, partition_key=partition, raise_on_error=False
        )
        self.runs.append(result.run_id)
        if result.success:
            return
        failures = [event.step_failure_data for event in result.get_step_failure_events()]
        reasons = [f.user_failure_data.description or "" for f in failures if f.user_failure_data is not None]
        raise LayerError(f"{job} failed. {' '.join(reasons) or 'Look at the run in the Dagster UI (make up).'}")

    def _show_a_bad_day(self) -> None:
        """Let the feed answer with a web page once: nothing reaches raw, and a dead letter says what came."""
        if self.stack.simulator is None:
            return
        self.stack.simulator.fault = BadDay.HTML
        try:
            self._execute("wrm_stations_ingest_job")
        except LayerError as error:
            self.progress.console.print(f"a bad day, on purpose: {error}", style="yellow", highlight=False)
        finally:
            self.stack.simulator.fault = None

    def _days_that_the_sensor_asks_for(self) -> list[str]:
        """Ask the sensor what is new, as the daemon does every 15 seconds."""
        days: list[str] = []
        cursor: str | None = None
        while True:
            with build_sensor_context(
                instance=self.instance, cursor=cursor, resources={"object_store": ObjectStoreResource()}
            ) as context:
                result = wrm_stations_raw_data_sensor(context)
            if not isinstance(result, SensorResult) or not result.run_requests:
                return days
            days += [r.partition_key for r in result.run_requests if r.partition_key and r.partition_key not in days]
            cursor = result.cursor
