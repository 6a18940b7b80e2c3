"""Clients as Dagster resources. They hold no secret: credentials are read when a run starts."""
