"""The chaos suite: real processes killed, paused and cut off by seed, judged from outside the engine."""
