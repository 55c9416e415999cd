"""For the tests of apps with sagas: a recording orchestrator, and a clock that can be moved."""

from __future__ import annotations

from sagas.testing.clock import move_clock, reset_clock
from sagas.testing.orchestrator import RecordingOrchestrator, Started

__all__ = ["RecordingOrchestrator", "Started", "move_clock", "reset_clock"]
