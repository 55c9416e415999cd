"""What one run does, drawn from its seed: sagas with their plans, and disruptions in their order."""

import random
from dataclasses import dataclass, field

from tests.harness.scenario import STEPS

KINDS = {
    "scenario": 28,
    "scenario_once": 15,
    "scenario_blind": 10,
    "scenario_pivot": 15,
    "scenario_careful": 10,
    "scenario_brief": 15,
    "chaos_prepared": 7,
    "chaos_hasty": 7,
}
FORWARD = {
    "ok": 50,
    "slow:0.3": 20,
    "slow:0.8": 8,
    "effect+slow:0.4": 10,
    "flaky": 5,
    "flaky:2": 2,
    "notready": 2,
    "die": 3,
}
TURNS = {"fail": 5, "raise": 4, "cancel": 2, "junk": 2, "die:9": 2}
"""Words after which a step does not complete: the saga goes back, or is FAILED past its pivot."""
UNDO = {"ok": 70, "slow:0.3": 10, "effect+slow:0.3": 6, "flaky": 6, "die": 4, "notready": 2, "fail": 1, "raise": 1}
TURNING = 0.4
"""The share of sagas with a step that turns it round."""
KEYED_TWICE = 0.3
FAMILIES = 10
"""One saga with a child for so many others, on top of them."""
CANCELLED = 0.1
WAYS = ("client", "sql", "broker", "message")
"""How a saga is started: by a client with a database, by `SELECT start_saga(...)`, by a client that has only the
broker, by a bare message."""

KILLS = {"child": 12, "worker": 4, "main": 2, "beat": 1, "control": 1}
OUTAGES = {
    "pause": 2,
    "flush": 2,
    "broker_crash": 1,
    "postgres_crash": 1,
    "postgres_restart": 1,
    "postgres_pause": 1,
    "duplicate": 3,
}
"""Of each, for every 20 kills."""


@dataclass(frozen=True)
class SagaPlan:
    """One saga of a run; `starts` are the ways of its concurrent starts, all with one key."""

    key: str
    kind: str
    actions: dict[str, str] = field(default_factory=dict)
    starts: tuple[str, ...] = ("client",)
    cancel_after: float | None = None
    kid: dict[str, str] | None = None
    """The plan of its child, if it has one."""
    keyed: bool = True
    """Whether its starts have the key as theirs. What a client starts alone has none: its first message may be out
    before its rows (decision 0019); the key is the saga's correlation id then.
    """

    @property
    def payload(self) -> dict[str, object]:
        return {"plan": self.actions} | ({} if self.kid is None else {"kid": {"plan": self.kid}})


@dataclass(frozen=True)
class Disruption:
    """`after` seconds of waiting, then this; `choice` picks its victim, `length` its duration in seconds."""

    kind: str
    after: float
    length: float
    choice: float


ABREAST = "2000"
"""A message's budget in milliseconds that lets its sagas go side by side: each step here writes a log of its own."""


@dataclass(frozen=True)
class Plan:
    """All of one run."""

    seed: int
    sagas: list[SagaPlan]
    disruptions: list[Disruption]

    @property
    def twice(self) -> bool:
        """Two beats and two control workers, in every second seed."""
        return self.seed % 2 == 0

    @property
    def packs(self) -> bool:
        """What clients start is started together, in every other seed: messages that bring several sagas."""
        return self.seed % 2 == 1

    @property
    def env(self) -> dict[str, str]:
        """In every third seed the broker delivers again what is not acknowledged within five seconds (L43).

        In half of them each step has a message of its own, in the other half messages go on to further steps.
        """
        short = {"HODEI_VISIBILITY_TIMEOUT": "5"} if self.seed % 3 == 0 else {}
        budget = ABREAST if self.packs else "200"
        return {**short, "HODEI_CONTINUATION_MS": "0" if self.seed % 4 >= 2 else budget}


def draw(seed: int, sagas: int, kills: int) -> Plan:
    """The same seed and numbers give the same plan."""
    dice = random.Random(seed)
    plans = [_saga(dice, f"seed{seed}-{number}") for number in range(sagas)]
    disruptions = _disruptions(dice, kills)
    # Drawn last, and put among the others: the rest of a seed is what it was before there were families.
    for number in range(sagas // FAMILIES):
        plans.insert(dice.randrange(len(plans)), _family(dice, f"seed{seed}-family{number}"))
    return Plan(seed, plans, disruptions)


def _saga(dice: random.Random, key: str) -> SagaPlan:
    kind = _pick(dice, KINDS)
    actions = {step: _pick(dice, FORWARD) for step in STEPS}
    if dice.random() < TURNING:
        actions[dice.choice(STEPS)] = _pick(dice, TURNS)
    if kind == "scenario_brief" and dice.random() < 0.4:
        actions[dice.choice(("two", "three"))] = dice.choice(("stall", "hang", "stall:9"))
    if kind == "scenario_careful" and dice.random() < 0.4:
        actions["two"] = "half"
    actions |= {f"undo_{step}": _pick(dice, UNDO) for step in STEPS}
    several = dice.choice((2, 3)) if dice.random() < KEYED_TWICE else 1
    # A message alone is outside P1 until its row exists: the first start is one that answers.
    starts = (dice.choice(WAYS[:3]), *(dice.choice(WAYS) for _ in range(several - 1)))
    cancel = dice.uniform(0, 3) if dice.random() < CANCELLED else None
    kept = {name: action for name, action in actions.items() if action != "ok"}
    return SagaPlan(key, kind, kept, starts, cancel, keyed=starts != ("client",))


def _family(dice: random.Random, key: str) -> SagaPlan:
    """Parent or child may turn round, and either be cancelled."""
    own, kid = _saga(dice, key), _saga(dice, key)
    actions = {name: action for name, action in _plain(own.actions).items() if not name.endswith("two")}
    kid_actions = _plain(kid.actions)
    return SagaPlan(key, "chaos_family", actions, own.starts, own.cancel_after, kid_actions, own.keyed)


def _plain(actions: dict[str, str]) -> dict[str, str]:
    """Without the words that only some kinds of saga know."""
    return {name: action for name, action in actions.items() if action.split(":")[0] not in ("stall", "hang", "half")}


def _disruptions(dice: random.Random, kills: int) -> list[Disruption]:
    wanted = _share(KILLS, kills, kills / sum(KILLS.values()))
    outages = [kind for kind, number in OUTAGES.items() for _ in range(round(number * kills / 20))]
    kinds = wanted + outages
    dice.shuffle(kinds)
    return [
        Disruption(kind, after=dice.uniform(0.3, 1.8), length=dice.uniform(0.2, 3.0), choice=dice.random())
        for kind in kinds
    ]


def _share(table: dict[str, int], total: int, factor: float) -> list[str]:
    """`total` words in the table's proportions; what rounding leaves goes to the first."""
    kinds = [kind for kind, number in table.items() for _ in range(round(number * factor))][:total]
    first = next(iter(table))
    return kinds + [first] * (total - len(kinds))


def _pick(dice: random.Random, table: dict[str, int]) -> str:
    return dice.choices(list(table), weights=list(table.values()))[0]
