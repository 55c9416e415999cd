"""The platform's part of `hodei`: jobs, workers, the demo. `sagas.cli.main` finds its commands by name."""
