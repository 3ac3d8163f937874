"""`python -m kvt` does what `kvt` does."""

import sys

from kvt.cli import main

sys.exit(main())
