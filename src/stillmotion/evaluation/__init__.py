"""Evaluation: metrics, feature extractors, trackers, protocols, the report and the speed benchmark."""
