"""Whether a worker consumes the queue of compensations just now: its main process knows it, its pool is told."""

from __future__ import annotations

import mmap


class Consuming:
    """One byte that a worker's main process writes and the children that it forks read; False where nobody writes."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def __bool__(self) -> bool:
        return self._shared[0] == 1

    def note(self, consumes: bool) -> None:
        """Told by the main process, whenever it may have changed."""
        self._shared[0] = int(consumes)
