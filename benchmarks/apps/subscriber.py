"""Somebody who wants each step's event, for the cost of the relay."""

from sagas import DomainEvent, on_event


@on_event("StepCompleted")
def noted(event: DomainEvent) -> None:
    return None
