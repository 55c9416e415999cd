"""Where workers come from. Each provider implements `sagas.jobs.ports.WorkerProvider`."""
