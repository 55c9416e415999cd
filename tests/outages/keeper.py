"""What a supervisor does for a test: a Celery process that has ended is started again."""

import threading
from types import TracebackType

from tests.harness.celery_nodes import System
from tests.harness.processes import Process


class Keeper:
    """Starts the processes of a system again when they end, until the `with` block is left. `exits`: how often."""

    def __init__(self, system: System) -> None:
        self._processes: list[Process] = [system.steps, system.control, system.beat]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.exits: dict[str, int] = {process.name: 0 for process in self._processes}

    def __enter__(self) -> "Keeper":
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            for process in self._processes:
                if not process.running():
                    self.exits[process.name] += 1
                    Process.restart(process)  # not WorkerProcess.restart, which waits until it is ready
