"""Pure functions on tables and values: no I/O, no Dagster."""
