"""Data contracts: columns, bounds, rules, severities, thresholds, freshness, owners. One YAML file a dataset.

The files follow the Open Data Contract Standard 3.1. Code elsewhere holds no bound and no threshold.
"""
