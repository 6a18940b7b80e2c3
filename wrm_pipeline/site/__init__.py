"""The public site: its pages, what they say and how they look, and the JSON files they read."""
