"""Dead letters made from what a stage set aside."""

from collections.abc import Iterable, Mapping

from wrm_pipeline.feed.base import Fault, Reject
from wrm_pipeline.lake.dead_letters import DeadLetter, DeadRecord, Stage, letter_id
from wrm_pipeline.lake.keys import day_of
from wrm_pipeline.layers.report import Provenance


def letters_for(
    *,
    stage: Stage,
    code_version: str,
    contract_version: str,
    provenance: Provenance,
    sha256: Mapping[str, str],
    rejects: Iterable[Reject] = (),
    faults: Mapping[str, Fault] | None = None,
) -> list[DeadLetter]:
    """Return one letter for each source that has rejects or is set aside whole; `sha256` is by source key."""
    records: dict[str, list[DeadRecord]] = {}
    for reject in rejects:
        record = DeadRecord.from_row(
            line=reject.line,
            row=reject.row,
            source_key=reject.source_key,
            rule=reject.rule,
            error_class="BadRow",
            message=reject.message,
        )
        records.setdefault(reject.source_key, []).append(record)
    for key, fault in (faults or {}).items():
        whole = DeadRecord(line=None, pointer=key, rule=fault.kind, error_class="BadFile", message=fault.message)
        records.setdefault(key, []).append(whole)
    now = provenance.now()
    return [
        DeadLetter(
            id=letter_id(key, stage),
            source_key=key,
            source_sha256=sha256[key],
            partition=day_of(key) or now.date(),
            stage=stage,
            asset=provenance.asset,
            run_id=provenance.run_id,
            code_version=code_version,
            contract_version=contract_version,
            first_seen=now,
            last_seen=now,
            records=tuple(of_source),
        )
        for key, of_source in sorted(records.items())
    ]
