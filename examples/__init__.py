"""Sagas to read and to copy. `order.py` is the one of the README, `foreign_app/` an app with a Celery of its own."""
