"""Metrics: each is a `torchmetrics.Metric` with its definition in a sentence and states that are sums."""
