"""Refusals in one line."""

from collections.abc import Callable
from typing import Any

import pytest

from stillmotion.errors import StillmotionError


def refuses(
    words: str, call: Callable[..., Any], *arguments: Any, error: type[Exception] = StillmotionError, **options: Any
) -> None:
    """Assert that a call raises an error whose message matches `words`."""
    with pytest.raises(error, match=words):
        call(*arguments, **options)
