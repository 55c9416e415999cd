"""The Celery apps that the benchmark's workers run."""
