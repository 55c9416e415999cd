"""Beat answers no ping, so a health check cannot ask it: this one leaves a mark whenever a message went out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler


class MarkingScheduler(PersistentScheduler):
    """`celery beat -S deploy.beat:MarkingScheduler -s FILE`: the age of `FILE.sent` is that of the last tick sent."""

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """Raises SchedulingError, and leaves the mark as it is, when the broker did not take the message."""
        sent = super().apply_async(*args, **kwargs)
        Path(f"{self.schedule_filename}.sent").touch()
        return sent
