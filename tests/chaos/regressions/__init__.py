"""What the suite found, each reduced to a small test."""
