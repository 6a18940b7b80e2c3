"""A cache in tiers, and what it may hold. It only saves work: without it, or with a broken one, all is the same."""
