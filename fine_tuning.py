"""Fine-tune the SimCLR run of simclr_train.py on STL10's labelled images: `twoviews finetune output/pretrain-stl10`, and its flags."""

import sys

from twoviews.cli import script

sys.exit(script("finetune output/pretrain-stl10"))
