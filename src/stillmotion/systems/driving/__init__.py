"""Monkey-Net: a still follows a driving video."""
