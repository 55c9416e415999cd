"""What a worker is given, and what a job asks of its worker: labels, cores, memory. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Resources:
    """`cpu` in cores (0.5 is half of one), `memory` in bytes. None: nothing is asked, and nothing is promised."""

    cpu: float | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what no machine could give."""
        cpu, memory = self.cpu, self.memory
        number = isinstance(cpu, int | float | None) and not isinstance(cpu, bool)
        require(
            number and (cpu is None or (math.isfinite(cpu) and cpu > 0)), "resources: 'cpu' must be a positive number"
        )
        whole = isinstance(memory, int | None) and not isinstance(memory, bool)
        require(whole and (memory is None or memory > 0), "resources: 'memory' must be a positive number of bytes")

    def to_json(self) -> dict[str, Any]:
        """Only what is asked: two that ask the same are the same JSON."""
        values = {"cpu": None if self.cpu is None else float(self.cpu), "memory": self.memory}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises ValueError, in one line, for what `to_json` would not have written."""
        require(isinstance(data, Mapping) and set(data) <= {"cpu", "memory"}, "resources: only 'cpu' and 'memory'")
        return cls(data.get("cpu"), data.get("memory"))


@dataclass(frozen=True)
class Requirements:
    """What a job asks of its worker: each of these labels with this value, and at least these resources."""

    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        """Raises ValueError for a label without a name."""
        require(all(self.labels), "requirements: a label must have a name")
        texts = (text for pair in self.labels.items() for text in pair)
        require(not any("\0" in text for text in texts), "requirements: a label must not contain NUL")

    def __str__(self) -> str:
        """For people: `gpu=yes, cpu 2, memory 512M`."""
        told = [f"{name}={value}" for name, value in sorted(self.labels.items())]
        if self.resources.cpu is not None:
            told.append(f"cpu {self.resources.cpu:g}")
        if self.resources.memory is not None:
            told.append(f"memory {show_bytes(self.resources.memory)}")
        return ", ".join(told) or "nothing"

    def to_json(self) -> dict[str, Any]:
        """Empty for a job that asks for nothing."""
        labels = {"labels": dict(self.labels)} if self.labels else {}
        resources = self.resources.to_json()
        return {**labels, **({"resources": resources} if resources else {})}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises ValueError, in one line, for what `to_json` would not have written."""
        known = isinstance(data, Mapping) and set(data) <= {"labels", "resources"}
        require(known, "requirements: only 'labels' and 'resources'")
        labels = strings("requirements: 'labels'", data.get("labels") or {})
        return cls(labels, Resources.from_json(data.get("resources") or {}))


UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(text: str) -> int:
    """`512M`, `2G`, `1.5G`, `1048576`: a number of bytes, by powers of 1024. Raises ValueError, in one line."""
    number, unit = text.strip(), ""
    if number and number[-1].upper() in UNITS:
        number, unit = number[:-1], number[-1].upper()
    try:
        size = float(number) * UNITS[unit]
    except ValueError:
        size = math.nan
    if not (math.isfinite(size) and size >= 1):
        raise ValueError(f"{text!r} is no number of bytes; write 512M, 2G or 1048576")
    return int(size)


def show_bytes(size: int) -> str:
    """The largest unit that tells it exactly."""
    unit = next(unit for unit in reversed(UNITS) if size % UNITS[unit] == 0)
    return f"{size // UNITS[unit]}{unit}"


def require(right: bool, message: str) -> None:
    """Raises ValueError with this line."""
    if not right:
        raise ValueError(message)


def strings(what: str, data: Any) -> dict[str, str]:
    """The mapping of strings to strings that `data` should be; ValueError if it is none."""
    right = isinstance(data, Mapping) and all(isinstance(text, str) for pair in data.items() for text in pair)
    require(right, f"{what} must map strings to strings")
    return dict(data)
