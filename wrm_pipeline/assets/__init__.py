"""The assets, one module a layer: read, call a pure function, write, report."""
