"""What every contender can do: start, take work while it does not consume, be let go, and say what it has done."""

from abc import ABC, abstractmethod
from typing import ClassVar

from benchmarks.stand import Job, Stand


class Wrong(Exception):
    """The run's rows are not what they must be: its figures do not count."""


class Contender(ABC):
    """One way of doing a job, with its processes; made anew for each run. `started` sagas so far."""

    name: ClassVar[str]
    fails: ClassVar[bool] = False

    def __init__(self, stand: Stand, job: Job, timed: bool = False, alone: bool = False) -> None:
        """`timed`: for `one`, which wants to know when each task ended. `alone`: without what only runs beside."""
        self.stand = stand
        self.job = job
        self.timed = timed
        self.alone = alone
        self.started = 0

    @abstractmethod
    def start(self) -> None:
        """Start the processes and wait until they work."""

    @abstractmethod
    def hold(self) -> None:
        """Stop consuming, with everything kept warm."""

    @abstractmethod
    def release(self) -> None:
        """Consume again. The clock of a run starts right before this."""

    @abstractmethod
    def submit(self, count: int) -> None:
        """Start so many sagas."""

    @abstractmethod
    def finished(self) -> bool:
        """Whether all that was started has ended."""

    @abstractmethod
    def check(self) -> None:
        """Raise Wrong unless each saga has come to its end, every step once."""

    @abstractmethod
    def one(self) -> float:
        """Start one saga, wait for it, and return the seconds from the call to the end of its last commit."""

    @abstractmethod
    def pids(self) -> dict[str, list[int]]:
        """The main processes by what they are (`worker`, `control`), besides the servers."""

    def message_bytes(self) -> int | None:
        """Of the first message of a saga that waits, while it does."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of connections; the processes end with the stand."""
