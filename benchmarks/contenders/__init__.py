"""Who runs: each does the same job, and is started anew for each run."""

from benchmarks.contenders.bare import Bare, BareFailing
from benchmarks.contenders.base import Contender
from benchmarks.contenders.celery_saga import CelerySaga, CelerySagaFailing
from benchmarks.contenders.dbos import DbosDirect, DbosDirectFailing, DbosQueue, DbosQueueFailing
from benchmarks.contenders.ours import Ours, OursFailing, OursMessages, OursPooled, OursSingle
from benchmarks.contenders.procrastinate import Procrastinate
from benchmarks.contenders.sagaz import Sagaz

CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender
    for contender in (
        Bare,
        Ours,
        OursSingle,
        OursMessages,
        CelerySaga,
        DbosQueue,
        DbosDirect,
        BareFailing,
        OursFailing,
        CelerySagaFailing,
        DbosQueueFailing,
        DbosDirectFailing,
        Procrastinate,
        Sagaz,
        OursPooled,
    )
}
ON_DEMAND = (Procrastinate.name, Sagaz.name, OursPooled.name)
DEFAULT = tuple(name for name in CONTENDERS if name not in ON_DEMAND)
