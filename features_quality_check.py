"""PCA, t-SNE, k-means, linear probe and kNN of the SimCLR run of simclr_train.py: `twoviews features output/pretrain-stl10`, and its flags."""

import sys

from twoviews.cli import script

sys.exit(script("features output/pretrain-stl10"))
