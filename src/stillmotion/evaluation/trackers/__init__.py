"""Trackers: where a point or an object of the first frame is in any video, from its pixels alone."""
