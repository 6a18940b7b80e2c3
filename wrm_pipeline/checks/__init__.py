"""Asset checks, made from the contracts: what they show is in `metadata`; how a day is judged, in `layers.trust`."""
