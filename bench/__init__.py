"""The benchmark: `make bench`. Not part of the package; nothing in it is imported by the pipeline."""
