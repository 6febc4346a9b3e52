"""``python -m twoviews``."""

import sys

from twoviews.cli import main

sys.exit(main())
