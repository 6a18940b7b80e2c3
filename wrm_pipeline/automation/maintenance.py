"""Housekeeping of the lake, started by hand."""

from dagster import OpExecutionContext, in_process_executor, job, op

from wrm_pipeline.assets.common import step
from wrm_pipeline.layers.cleanup import remove_superseded
from wrm_pipeline.resources.metrics import MetricsResource
from wrm_pipeline.resources.object_store import ObjectStoreResource


@op
def remove_superseded_objects(
    context: OpExecutionContext, object_store: ObjectStoreResource, metrics: MetricsResource
) -> None:
    """Delete objects that older deployments left, once the fixed key holds the day."""
    with step(context, metrics, object_store):
        removed = remove_superseded(object_store.lake)
    context.log.info("%d objects of older deployments removed", len(removed))
    context.add_output_metadata({"removed": len(removed), "keys": removed[:100]})


@job(executor_def=in_process_executor)
def wrm_stations_cleanup_job() -> None:
    """Delete what older deployments left: processed and enhanced objects with a timestamp in their names."""
    remove_superseded_objects()
