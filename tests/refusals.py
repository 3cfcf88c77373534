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


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The one sentence of the `StillmotionError` that a call raises."""
    with pytest.raises(StillmotionError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert message[-1] in ".?"
    assert "\n" not in message
    return message
