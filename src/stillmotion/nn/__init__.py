"""Blocks that two or more systems share, and nothing else."""
