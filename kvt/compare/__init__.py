"""Whether two runs hold the same bits, what one run left, and what a change does."""
