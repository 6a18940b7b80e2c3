"""How each layer is made: raw from the feed, processed from raw, enhanced from processed. No Dagster here."""
