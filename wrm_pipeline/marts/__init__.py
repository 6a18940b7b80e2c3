"""Analytics marts: one SQL file a table, what it means, and what runs them. No Dagster in here."""
