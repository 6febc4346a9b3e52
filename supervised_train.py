"""Train the supervised baseline on STL10's labelled images: `twoviews supervised stl10`, and its flags."""

import sys

from twoviews.cli import script

sys.exit(script("supervised stl10"))
