"""The platform's own Alembic branch, `jobs`, beside the engine's."""
