"""The pure core: plans, steps, the director, retries. No I/O, no clock, no randomness."""
