"""Which cause makes a pair of yours differ: found by experiment, and proven."""
