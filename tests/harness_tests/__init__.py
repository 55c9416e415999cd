"""The harness tests itself: a harness that lies makes every other test worthless."""
