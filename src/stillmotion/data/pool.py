"""Work in several processes whose results come back in order, and whose crashes stay with their item."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from stillmotion.errors import StillmotionError

Item = TypeVar("Item")
Result = TypeVar("Result")
Start = Callable[[], None]


def map_in_order(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    crashed: Callable[[Item], Result],
    start: Start | None = None,
) -> Iterator[Result]:
    """Yield `work(item)` for every item, in the order of the items.

    Args:
        work: with several jobs a module-level function (or a `functools.partial` of one).
        items: what to work on.
        jobs: number of processes; with 1 everything happens in this one.
        crashed: what to yield for an item that killed its process (a broken file can crash a decoder).
        start: called once in every process.

    Raises:
        StillmotionError: no process can be started, as in a script without a main guard.
    """
    if jobs <= 1:
        yield from map(work, items)
        return
    done, ahead = 0, 2 * jobs
    while done < len(items):
        try:
            for result in _together(work, items[done:], jobs, ahead, start):
                yield result
                done += 1
        except BrokenProcessPool:
            # Any of the items that were being worked on may have crashed: they are tried again one at a time.
            for item in items[done : done + ahead]:
                try:
                    [result] = _together(work, [item], 1, 1, start)
                except BrokenProcessPool:
                    result = crashed(item)
                yield result
                done += 1


def _together(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, ahead: int, start: Start | None
) -> Iterator[Result]:
    """Work on `ahead` items at a time and not on all, since results wait in memory for the order."""
    waiting: deque[Future[Result]] = deque()
    # Spawned, not forked: decoders and thread pools do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(items)), mp_context=spawn, initializer=start)
    try:
        try:
            pool.submit(int).result()  # processes that break before any work do not break because of it
        except BrokenProcessPool as error:
            raise StillmotionError(
                "The processes for several jobs could not be started: a script must ask for them under "
                'if __name__ == "__main__":, and they need memory.'
            ) from error
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
