"""Business rules, bounds and thresholds."""
