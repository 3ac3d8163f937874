"""Whether two runs hold the same bits, what a run produced, and what a change does."""
