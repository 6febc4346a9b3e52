"""Fine-tuning that begins as a linear probe: the head is fitted on frozen features before any weight moves."""

from __future__ import annotations

from copy import deepcopy

from torch import nn

from twoviews.model.resnet50 import Classifier
from twoviews.stages.feature_probes import Checked, chosen_probe
from twoviews.stages.features import extract
from twoviews.stages.models import put_probe
from twoviews.stages.setup import Shared
from twoviews.trainers.progress import say


def start_from_probe(classifier: Classifier, shared: Shared, *, seed: int) -> None:
    """Make the head's linear layer a probe of the training images' features (LP-FT: Kumar et al. 2022, section 3.3).

    From a head of zeros the first gradients bend good features towards a poor classifier; the fewer the labels, the
    more of them is lost. The probe is chosen as the feature check chooses its own, from the images that the run trains
    on, so it brings no label that the run must not know.

    Raises:
        DataError: all training images have one label.
    """
    kept = classifier.projection
    below = classifier.backbone if kept is None else nn.Sequential(classifier.backbone, kept)
    frozen = shared.engine.to_device(deepcopy(below))
    splits = shared.splits
    checked = Checked(extract(frozen, splits.train, shared), extract(frozen, splits.val, shared))
    probe = chosen_probe(checked, splits, seed).probe
    put_probe(probe, classifier)
    say(f"finetune: the head starts as a linear probe of the {len(splits.train):,} training images (C = {probe.c:g})")
