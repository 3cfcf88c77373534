"""Metrics, protocols and reports: every number with its definition, its data and its trivial baselines."""
