"""The testing loop's last step: probabilities from features that were computed once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from twoviews.model.resnet50 import Classifier


def head_probabilities(classifier: Classifier, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Class probabilities, N×classes float32 with rows that sum to 1, from the backbone's features. Reads no label.

    Args:
        features: N×D, what ``classifier.backbone`` gives for the images in eval mode.
    """
    device = next(classifier.head.parameters()).device
    with torch.inference_mode():
        logits = classifier.head(torch.from_numpy(features).to(device))
        return torch.softmax(logits, dim=1).cpu().numpy()
