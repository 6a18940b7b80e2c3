"""Lineage: OpenLineage events of one run, made from Dagster's event log when the run has ended.

One event a materialization, and one for each asset that the run was to make and did not. They are one object,
lineage/dt={UTC day on which the run began}/{run_id}.json: a JSON document a line, in the order of time. The same event
log gives the same bytes as long as the lake has not moved on, so publishing twice does no harm.
"""

import datetime as dt
import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dagster import AssetMaterialization, DagsterEventType, DagsterInstance, DagsterRun, EventLogEntry

from wrm_pipeline import __version__
from wrm_pipeline.contracts.active import active_contracts
from wrm_pipeline.contracts.vocabulary import DEAD_LETTERS, ENHANCED, PROCESSED
from wrm_pipeline.lake.lake import Lake
from wrm_pipeline.marts.catalogue import catalogue
from wrm_pipeline.operations.lineage_inputs import Dataset, Inputs, Made, RunInputs, dataset
from wrm_pipeline.resilience import OptionalPart
from wrm_pipeline.settings import Settings

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.facet_v2 import DatasetFacet, JobFacet, RunFacet
    from openlineage.client.generated.column_lineage_dataset import ColumnLineageDatasetFacet

PRODUCER: Final = f"urn:wrm-pipeline:{__version__}"
# OpenLineage's namespace of jobs; a job is an asset.
JOBS: Final = "wrm_pipeline"
CONTENT_TYPE: Final = "application/x-ndjson"
_MESSAGE_CHARACTERS: Final = 2000
_OF_INTEREST: Final = {
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.RUN_START,
    DagsterEventType.RUN_SUCCESS,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_CANCELED,
}
_BADLY_ENDED: Final = {DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}
_RANGE: Final = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")

# Columns of processed that are not called as in raw, and what of raw they are read from. `s3_source_key` and
# `file_timestamp` are the object's key.
_PACKED_TIME: Final = "timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec"
_OVERLOADED: Final = "givesbonus_acceptspedelecs_fbbattlevel"
READ_FROM_RAW: Final[Mapping[str, tuple[str, ...]]] = {
    "station_id": ("#id",),
    "timestamp": (_PACKED_TIME,),
    "gmt_local_diff_sec": (_PACKED_TIME,),
    "gmt_servertime_diff_sec": (_PACKED_TIME,),
    "gives_bonus": ("#id", _OVERLOADED),
    "battery_level": ("#id", _OVERLOADED),
}
# Columns that enhanced adds, and what of processed they are made from; flags, from all that a rule looks at.
MADE_FROM_PROCESSED: Final[Mapping[str, tuple[str, ...]]] = {
    "record_type": ("station_id", "name"),
    "date": ("file_timestamp",),
    "in_service_area": ("lat", "lon"),
    "quality_flags": (
        "station_id",
        "name",
        "timestamp",
        "lat",
        "lon",
        "bikes",
        "spaces",
        "total_docks",
        _OVERLOADED,
        "file_timestamp",
    ),
}


def publish_lineage(lake: Lake, instance: DagsterInstance, run_id: str, settings: Settings) -> str | None:
    """Store the lineage of a run that has ended, and send it to the collector when there is one.

    Returns:
        The key it lies at; None when lineage is off, or the run was to materialize nothing.

    Raises:
        StoreError: the lake does not answer. A collector that does not is a warning.
    """
    if not settings.wrm_lineage:
        return None
    log = _RunLog.read(instance, run_id)
    events = _events(lake, log) if log is not None else []
    if log is None or not events:
        return None
    lines = [_line(event) for event in events]
    key = lake.keys.lineage(log.began.date(), run_id)
    lake.store.put(key, b"".join(lines), content_type=CONTENT_TYPE)
    _send(lines, settings)
    return key


@dataclass(frozen=True)
class _Check:
    """The result of an asset check."""

    name: str
    partition: str | None
    passed: bool
    severity: str
    description: str | None


@dataclass(frozen=True)
class _NotMade:
    """An asset that the run was to make. `failed` tells whether its step failed, or never came to an end."""

    asset: str
    partition: str | None
    at: dt.datetime
    failed: bool
    message: str


@dataclass(frozen=True)
class _RunLog:
    """What a run's event log says."""

    run: DagsterRun
    began: dt.datetime
    made: tuple[Made, ...]
    not_made: tuple[_NotMade, ...]
    checks: Mapping[str, tuple[_Check, ...]]

    @classmethod
    def read(cls, instance: DagsterInstance, run_id: str) -> "_RunLog | None":
        """Read it; None for a run that is not known, or has not begun."""
        run = instance.get_run_by_id(run_id)
        entries = instance.all_logs(run_id, of_type=_OF_INTEREST)
        if run is None or not entries:
            return None
        began = next((e for e in entries if e.dagster_event_type is DagsterEventType.RUN_START), entries[0])
        made = tuple(_made(entry, run) for entry in entries if entry.asset_materialization is not None)
        checks: defaultdict[str, dict[tuple[str, str | None], _Check]] = defaultdict(dict)
        for entry in entries:
            found = entry.asset_check_evaluation
            if found is not None:
                check = _Check(
                    found.check_name,
                    found.partition,
                    passed=found.passed,
                    severity="error" if found.severity.value == "ERROR" else "warn",
                    description=found.description,
                )
                checks[found.asset_key.to_user_string()][check.name, check.partition] = check  # the newest counts
        return cls(
            run,
            _time(began),
            made,
            tuple(_not_made(run, entries, {each.asset for each in made})),
            {asset: tuple(found[key] for key in sorted(found, key=str)) for asset, found in checks.items()},
        )


def _made(entry: EventLogEntry, run: DagsterRun) -> Made:
    materialization = entry.asset_materialization
    if not isinstance(materialization, AssetMaterialization):
        raise TypeError("an entry without a materialization was taken for one")
    metadata: dict[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
    tags = materialization.tags or {}
    return Made(
        asset=materialization.asset_key.to_user_string(),
        partition=materialization.partition or run.tags.get("dagster/partition"),
        at=_time(entry),
        metadata=metadata,
        version=metadata.get("etag") or tags.get("dagster/data_version"),
        code_version=tags.get("dagster/code_version"),
    )


def _not_made(run: DagsterRun, entries: Sequence[EventLogEntry], made: set[str]) -> Iterable[_NotMade]:
    """Yield what a run that ended badly was to make and did not, and what failed after some of its days."""
    end = next((entry for entry in reversed(entries) if entry.dagster_event_type in _BADLY_ENDED), None)
    if end is None:
        return
    failures = {entry.step_key: entry for entry in entries if entry.dagster_event_type is DagsterEventType.STEP_FAILURE}
    told: set[str] = set()
    for entry in entries:
        event = entry.dagster_event
        if event is None or entry.dagster_event_type is not DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
            continue
        planned = event.asset_materialization_planned_data
        asset, failure = planned.asset_key.to_user_string(), failures.get(entry.step_key)
        if asset in told or (asset in made and failure is None):
            continue
        told.add(asset)
        yield _NotMade(
            asset,
            planned.partition or run.tags.get("dagster/partition"),
            _time(failure or end),
            failed=failure is not None,
            message=_why(failure) if failure is not None else "The run ended before this was made.",
        )


def _why(entry: EventLogEntry) -> str:
    """Return the sentence of an expected failure, and of any other only its class: its words may quote anything."""
    data = entry.dagster_event.step_failure_data if entry.dagster_event is not None else None
    if data is not None and data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description[:_MESSAGE_CHARACTERS]
    error = data.error if data is not None else None
    while error is not None and error.cause is not None:
        error = error.cause
    return (error.cls_name if error is not None else None) or "Unknown error"


def _time(entry: EventLogEntry) -> dt.datetime:
    return dt.datetime.fromtimestamp(entry.timestamp, dt.UTC)


def _events(lake: Lake, log: _RunLog) -> "list[RunEvent]":
    """Return an event for each materialization and for each that did not come about, in the order of time."""
    inputs = RunInputs(lake, log.made)
    ordered = sorted(log.made, key=lambda made: (made.at, made.asset, made.partition or ""))
    events = [_complete(log, made, inputs.of(made)) for made in ordered]
    return [*events, *(_fail(log, each) for each in sorted(log.not_made, key=lambda each: (each.at, each.asset)))]


def _complete(log: _RunLog, made: Made, inputs: Inputs) -> "RunEvent":
    from openlineage.client import event_v2, facet_v2

    where = dataset(made.uri, made.version) if made.uri else Dataset(JOBS, made.asset, made.version)
    facets: dict[str, DatasetFacet] = {**_version(where.version), **_schema(made)}
    lineage = _column_lineage(made, inputs)
    if lineage is not None:
        facets["columnLineage"] = lineage
    checks = [check for check in log.checks.get(made.asset, ()) if check.partition in {None, made.partition}]
    if checks:
        # Of inputs, by its class; among an output's facets there may be any.
        facets["dataQualityAssertions"] = _assertions(checks)
    statistics = facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=_first(made, "dagster/partition_row_count", "dagster/row_count"),
        # Of the report on dead letters `bytes` are those it read.
        size=None if made.asset == DEAD_LETTERS else _first(made, "bytes_written", "bytes"),
        fileCount=_first(made, "objects_written"),
        producer=PRODUCER,
    )
    run_facets = _run_facets(log, made.partition)
    if inputs.note:
        told: Any = facet_v2.RunFacet(producer=PRODUCER).with_additional_properties(note=inputs.note)
        run_facets["wrm_inputs"] = told
    return event_v2.RunEvent(
        eventType=event_v2.RunState.COMPLETE,
        eventTime=_iso(made.at),
        producer=PRODUCER,
        run=event_v2.Run(_event_run_id(log, made.asset, made.partition, "made"), run_facets),
        job=event_v2.Job(JOBS, made.asset, _job_facets(made)),
        inputs=[
            event_v2.InputDataset(each.namespace, each.name, facets=_version(each.version)) for each in inputs.datasets
        ],
        outputs=[
            event_v2.OutputDataset(
                where.namespace, where.name, facets=facets, outputFacets={"outputStatistics": statistics}
            )
        ],
    )


def _fail(log: _RunLog, each: _NotMade) -> "RunEvent":
    from openlineage.client import event_v2, facet_v2

    message = facet_v2.error_message_run.ErrorMessageRunFacet(each.message, "python", producer=PRODUCER)
    return event_v2.RunEvent(
        eventType=event_v2.RunState.FAIL if each.failed else event_v2.RunState.ABORT,
        eventTime=_iso(each.at),
        producer=PRODUCER,
        run=event_v2.Run(
            _event_run_id(log, each.asset, each.partition, "not made"),
            {**_run_facets(log, each.partition), "errorMessage": message},
        ),
        job=event_v2.Job(JOBS, each.asset, {"jobType": _job_type()}),
    )


def _event_run_id(log: _RunLog, asset: str, partition: str | None, outcome: str) -> str:
    """Return the id of one asset's part in a run: the same each time it is asked for."""
    import uuid

    return str(uuid.uuid5(uuid.UUID(log.run.run_id), f"{asset}/{partition or ''}/{outcome}"))


def _run_facets(log: _RunLog, partition: str | None) -> "dict[str, RunFacet]":
    from openlineage.client.facet_v2 import RunFacet, nominal_time_run, parent_run

    facets: dict[str, RunFacet] = {
        "parent": parent_run.ParentRunFacet(
            run=parent_run.Run(log.run.run_id),
            job=parent_run.Job(JOBS, log.run.job_name),
            producer=PRODUCER,
        )
    }
    told = {"began": _iso(log.began), "correlationId": log.run.tags.get("wrm/correlation_id")}
    of_run: Any = RunFacet(producer=PRODUCER).with_additional_properties(**told)
    facets["wrm_run"] = of_run
    first, last = (partition, partition) if partition else tuple(log.run.tags.get(name) for name in _RANGE)
    try:
        start, end = dt.date.fromisoformat(first or ""), dt.date.fromisoformat(last or "") + dt.timedelta(days=1)
    except ValueError:  # no partition of this run is a day
        return facets
    facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(
        f"{start}T00:00:00Z", f"{end}T00:00:00Z", producer=PRODUCER
    )
    return facets


def _job_facets(made: Made) -> "dict[str, JobFacet]":
    from openlineage.client.facet_v2 import JobFacet

    told: dict[str, Any] = {
        "codeVersion": made.code_version,
        "builtBy": made.metadata.get("code_version"),
        "contract": made.metadata.get("contract"),
    }
    mart = catalogue().get(made.asset)
    if mart is not None:
        told |= {
            "grain": str(mart.grain),
            "needs": list(mart.needs),
            "columnLineage": "Known by table only: which columns its SQL reads is not recorded.",
        }
    facet: Any = JobFacet(producer=PRODUCER).with_additional_properties(**told)
    return {"jobType": _job_type(), "wrm_code": facet}


def _job_type() -> "JobFacet":
    from openlineage.client.facet_v2 import job_type_job

    return job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", "ASSET", producer=PRODUCER)


def _version(version: str | None) -> "dict[str, DatasetFacet]":
    from openlineage.client.facet_v2 import dataset_version_dataset

    if version is None:
        return {}
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(version, producer=PRODUCER)}


def _schema(made: Made) -> "dict[str, DatasetFacet]":
    from openlineage.client.facet_v2 import schema_dataset

    recorded = made.metadata.get("dagster/column_schema")
    if recorded is not None:
        columns = [(column.name, column.type) for column in recorded.columns]
    elif made.asset in catalogue():
        columns = list(catalogue()[made.asset].types.items())
    else:
        return {}
    fields = [
        schema_dataset.SchemaDatasetFacetFields(name, kind, ordinal_position=position)
        for position, (name, kind) in enumerate(columns, 1)
    ]
    return {"schema": schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)}


def _column_lineage(made: Made, inputs: Inputs) -> "ColumnLineageDatasetFacet | None":
    """Return which columns each column is made from, where that is known: for processed and enhanced."""
    from openlineage.client.facet_v2 import column_lineage_dataset as of

    contracts = active_contracts()
    if not inputs.datasets or made.asset not in {PROCESSED, ENHANCED}:
        return None
    is_processed = made.asset == PROCESSED
    # Of raw, the folder of the day: its objects all have the same columns.
    source, contract, upstream, derived = (
        (inputs.datasets[0], contracts.processed, contracts.raw, READ_FROM_RAW)
        if is_processed
        else (inputs.datasets[0], contracts.enhanced, contracts.processed, MADE_FROM_PROCESSED)
    )
    names = {column.name for column in upstream.columns}
    fields = {}
    for column in contract.columns:
        read = derived.get(column.name) or ((column.name,) if column.name in names else ())
        same = not is_processed and column.name in names  # from raw, text becomes a typed value
        how = of.Transformation("DIRECT", "IDENTITY" if same else "TRANSFORMATION")
        if read:
            fields[column.name] = of.Fields(
                [of.InputField(source.namespace, source.name, name, [how]) for name in read]
            )
    return of.ColumnLineageDatasetFacet(fields, producer=PRODUCER)


def _assertions(checks: Sequence[_Check]) -> Any:
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as of

    return of.DataQualityAssertionsDatasetFacet(
        [
            of.Assertion(
                check.name,
                check.passed,
                severity=check.severity,
                description=check.description,
                params={"partition": check.partition} if check.partition else {},
            )
            for check in checks
        ],
        producer=PRODUCER,
    )


def _first(made: Made, *names: str) -> int | None:
    return next((int(made.metadata[name]) for name in names if name in made.metadata), None)


def _iso(time: dt.datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(event: "RunEvent") -> bytes:
    from openlineage.client.serde import Serde

    return f"{Serde.to_json(event, separators=(',', ':'), ensure_ascii=False)}\n".encode()


@functools.cache
def _collector() -> OptionalPart:
    # Nobody waits for it, a run least of all; a collector elsewhere needs more than one on this machine.
    return OptionalPart(
        "The lineage collector",
        "OPENLINEAGE_URL and OPENLINEAGE_API_KEY",
        "events lie in the lake under lineage/ only",
        deadline_s=0.8,
        quiet_s=60.0,
    )


def _send(lines: Sequence[bytes], settings: Settings) -> None:
    """Send events to the collector, one a request; after the first one that it does not take, no more of them."""
    if settings.openlineage_url is None:
        return
    import urllib3

    key = settings.openlineage_api_key
    headers = {
        "Content-Type": "application/json",
        **({"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {}),
    }
    url = f"{settings.openlineage_url}/api/v1/lineage"
    with urllib3.PoolManager(retries=False, timeout=0.6) as pool:
        for line in lines:
            if _collector().ask(functools.partial(_post, pool, url, line, headers)) is None:
                return


def _post(pool: Any, url: str, line: bytes, headers: Mapping[str, str]) -> bool:
    answer = pool.request("POST", url, body=line, headers=headers, redirect=False)
    if not 200 <= answer.status < 300 or answer.headers.get("Content-Type", "").startswith("text/html"):
        raise ConnectionError
    return True
