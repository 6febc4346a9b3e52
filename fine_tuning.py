"""Fine-tune on STL10's labels: `twoviews finetune output/pretrain-stl10`, the run of simclr_train.py."""

import sys

from twoviews.cli import script

sys.exit(script("finetune output/pretrain-stl10"))
