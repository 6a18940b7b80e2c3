"""The `wrm` command."""
