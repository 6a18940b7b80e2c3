"""What is told of the pipeline from outside of its runs: from the event log of Dagster and from the lake."""
