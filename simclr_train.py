"""Train SimCLR on STL10's unlabeled images: `twoviews pretrain stl10`, and its flags."""

import sys

from twoviews.cli import script

sys.exit(script("pretrain stl10"))
