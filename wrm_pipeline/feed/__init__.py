"""Talking to the source: fetching, formats, the simulator."""
