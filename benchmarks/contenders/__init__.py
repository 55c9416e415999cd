"""Who runs: each does the same job, and is started anew for each run."""

from benchmarks.contenders.bare import Bare, BareFailing
from benchmarks.contenders.base import Contender
from benchmarks.contenders.ours import Ours, OursFailing, OursMessages

CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender for contender in (Bare, Ours, OursMessages, BareFailing, OursFailing)
}
