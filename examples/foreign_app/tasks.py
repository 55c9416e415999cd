"""This app's own tasks, on its own queue."""

from proj import app

from models import note


@app.task(name="proj.greet")
def greet(name: str) -> None:
    """A task that knows nothing of sagas."""
    note("greeting", name)
