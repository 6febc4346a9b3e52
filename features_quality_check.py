"""PCA, t-SNE, k-means, probes: `twoviews features output/pretrain-stl10`, the run of simclr_train.py."""

import sys

from twoviews.cli import script

sys.exit(script("features output/pretrain-stl10"))
