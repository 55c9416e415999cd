"""From one step to the next in the same process: what a commit may claim, and what the claimed step is then told."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from sagas.runtime.outcomes import Outcome
from sagas.store.requests import Onward
from sagas.types import SagaId

OUTPUTS_ALONG = 16
"""As many outputs ride with a claim (`saga_claim`); with more they are fetched when they are asked for."""

MayGoOn = Callable[[str, int], tuple[str, ...]]
"""Asked at the commit, with saga type and version: the steps that this process may go on to without a message."""


class Granted(NamedTuple):
    """A claim that is made already: by the commit before, or with those of other sagas. To be run by this process."""

    saga_id: SagaId
    step: str
    attempt_id: uuid.UUID
    claim: dict[str, Any]
    """As the store answers a claim: what it does not say again of the saga is that of the step before. Empty: it may
    have been made, and its reply lost; asked for again as the same attempt it is that one (R5).
    """


class Handover:
    """What an attempt may hand on to, by one id for all tries to commit: a lost reply is harmless (R5)."""

    def __init__(self, may_go_on: MayGoOn, claim: dict[str, Any]) -> None:
        self._ask = partial(may_go_on, claim["saga_type"], claim["version"])
        self._claim = claim
        self._next_id = uuid.uuid4()
        self._asked: Onward | None = None

    def onward(self) -> Onward | None:
        """Asked when the step is done; what was asked for once stays asked for."""
        if self._asked is None and (steps := self._ask()):
            self._asked = Onward(steps, self._next_id)
        return self._asked

    def granted(self, answer: dict[str, Any], saga_id: SagaId, done: str, outcome: Outcome) -> Granted | None:
        """The next claim, if the commit of step `done` made one: its saga is that of this one, with one output more."""
        then = answer.get("then")
        if not then:
            return None
        outputs = self._claim["outputs"]
        if outputs is not None and outcome.output is not None:
            assert outcome.text is not None  # what is committed as done has been made JSON
            # As it was stored; not for ever, or each step of a long saga would copy those of all before it.
            stored = {done: json.loads(outcome.text)}
            outputs = {**outputs, **stored} if len(outputs) < OUTPUTS_ALONG else None
        return Granted(
            saga_id, then["step"], self._next_id, {**self._claim, **then, "outputs": outputs, "first": False}
        )
