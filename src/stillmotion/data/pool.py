"""Work in several processes whose results come back in order, and whose crashes stay with their item."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

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
    """
    if jobs <= 1:
        yield from map(work, items)
        return
    done = 0
    ahead = 2 * jobs
    while done < len(items):
        try:
            for result in _together(work, items[done:], jobs, ahead, start):
                yield result
                done += 1
        except BrokenProcessPool:
            # Any of the items that were being worked on may have crashed: they are tried again one at a time.
            for result in _singly(work, items[done : done + ahead], crashed, start):
                yield result
                done += 1


def _together(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, ahead: int, start: Start | None
) -> Iterator[Result]:
    # Only some items are worked on at a time: results wait in memory for the order.
    waiting: deque[Future[Result]] = deque()
    with _pool(min(jobs, len(items)), start) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _singly(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    crashed: Callable[[Item], Result],
    start: Start | None,
) -> Iterator[Result]:
    done = 0
    while done < len(items):
        with _pool(1, start) as pool:
            try:
                for item in items[done:]:
                    yield pool.submit(work, item).result()
                    done += 1
            except BrokenProcessPool:
                yield crashed(items[done])
                done += 1


@contextlib.contextmanager
def _pool(jobs: int, start: Start | None) -> Iterator[ProcessPoolExecutor]:
    # Spawned, not forked: decoders and thread pools do not survive a fork.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=start)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
