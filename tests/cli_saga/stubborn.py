"""A saga whose undo never works."""

from sagas import PermanentError, Saga, SagaContext

stubborn = Saga("stubborn")


@stubborn.step
def take(ctx: SagaContext) -> None:
    """Done."""


@take.compensation
def give_back(ctx: SagaContext) -> None:
    raise PermanentError("it cannot be given back")


@stubborn.step
def refuse(ctx: SagaContext) -> None:
    raise PermanentError("no")
