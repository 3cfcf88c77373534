"""The verb `models`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillmotion.animate import describe_models
from stillmotion.options import option


@dataclass(frozen=True)
class Models:
    """List the shipped models and those trained here."""

    folders: Sequence[str] = option("folders", default=("runs",), many="*", help="look for trained models here too")

    def run(self) -> None:
        """Print a table."""
        rows = [("NAME", "SYSTEM", "CONTROL", "SIZE", "DATA", "LICENCE"), *describe_models(self.folders)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
