"""The test harness: real PostgreSQL, real Valkey, real Celery processes, and an oracle outside the engine."""
