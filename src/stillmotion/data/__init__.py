"""Prepared clips: on disk, in windows and pairs, with tracks."""
