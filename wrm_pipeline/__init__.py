"""WRM, the city bike of Wrocław: feed to raw, processed, enhanced and dead letters on S3, run by Dagster."""

__version__ = "0.1.0"
