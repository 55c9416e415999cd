"""Who runs: each does the same job, and is started anew for each run."""

from benchmarks.contenders.bare import Bare, BareFailing
from benchmarks.contenders.base import Contender
from benchmarks.contenders.celery_saga import CelerySaga, CelerySagaFailing
from benchmarks.contenders.dbos import Dbos, DbosDirectFailing, DbosQueue
from benchmarks.contenders.ours import Ours, OursFailing, OursMessages

CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender
    for contender in (
        Bare,
        Ours,
        OursMessages,
        CelerySaga,
        DbosQueue,
        Dbos,
        BareFailing,
        OursFailing,
        CelerySagaFailing,
        DbosDirectFailing,
    )
}
