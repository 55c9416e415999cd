"""sagaz on the same PostgreSQL: sagas in the caller's own process, a snapshot of each after each of its steps."""

from benchmarks.contenders.base import Wrong
from benchmarks.contenders.on_postgres import CalledDirectly

LAST = "__completed__"
ENDED = "SELECT count(*) FROM saga_snapshots WHERE step_name = %s"
KEPT = """
SELECT count(DISTINCT saga_id), count(DISTINCT (saga_id, step_index)), count(*) FILTER (WHERE status = 'completed')
FROM saga_snapshots
"""


class Sagaz(CalledDirectly):
    """Only its snapshots record steps (its saga storage knows a saga's start and end). One that could not be written is
    logged and no more; nothing resumes a saga by itself.
    """

    name = "sagaz"
    library = "sagaz"
    app = "benchmarks.apps.sagaz_app"
    at_once = 8

    def ended(self) -> bool:
        return bool(self.rows(ENDED, LAST)[0][0] == self.started)

    def check(self) -> None:
        # A snapshot of each step, and one at the end.
        expected = (self.started, self.started * (self.job.steps + 1), self.started)
        if (found := self.rows(KEPT)[0]) != expected:
            raise Wrong(f"{self.name}: sagas, snapshots, ends {found} instead of {expected}")
