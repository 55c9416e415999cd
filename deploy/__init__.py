"""What only containers need: see docs/deploy.md."""
