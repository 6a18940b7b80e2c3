"""Pages for people, made of what `transform` found: one self-contained HTML document each; no I/O, no Dagster."""
