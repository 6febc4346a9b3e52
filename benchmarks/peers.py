"""SimCLR as others write it, to be timed beside twoviews: lightly's loop, and a plain loop as tutorials have it.

Both take their images one at a time as PIL images from memory, as torchvision's CIFAR10 and STL10 do (no file is
decoded), through a ``DataLoader``, and train in float32 NCHW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from twoviews.model.resnet50 import feature_width

try:
    from lightly.data import LightlyDataset
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
except ImportError as error:
    raise SystemExit(
        f"lightly is missing ({error}); install what benchmarks need: pip install -e '.[benchmark]'"
    ) from None

Pixels = npt.NDArray[np.uint8]
Views = list[Tensor]  # two of N×3×H×W float32


class InMemoryImages(Dataset):
    """N×3×H×W uint8 images, given one at a time as (transformed PIL image, 0)."""

    def __init__(self, pixels: Pixels, transform: Callable[[Image.Image], Any] | None = None) -> None:
        self.pixels = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.pixels[index])
        return (image if self.transform is None else self.transform(image)), 0


@dataclass
class Peer:
    """A training loop: its data, its model, and how it makes a loss of two views.

    Attributes:
        model: on the device; its backbone is ``model.backbone``.
        optimizer: of the model.
        loader: batches whose first part is the two views.
        loss_of: from the two views, on the device, to the loss.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: DataLoader
    loss_of: Callable[[Views], Tensor]
    device: torch.device

    def steps(self) -> Iterator[Tensor]:
        """Train through the loader once; gives the loss after each step."""
        for views, *_ in self.loader:
            loss = self.loss_of([view.to(self.device, non_blocking=True) for view in views])
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            yield loss.detach()


def loader(dataset: Any, batch_size: int, workers: int, device: torch.device, batches: int | None = None) -> DataLoader:
    """Shuffled batches: each image once with the last short batch left out, or as many ``batches`` as are asked for."""
    sampler = None if batches is None else RandomSampler(dataset, replacement=True, num_samples=batches * batch_size)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True if sampler is None else None,
        sampler=sampler,
        drop_last=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0 and batches is None,
    )


class LightlySimCLR(nn.Module):
    """Backbone and lightly's head: N×3×H×W → N×width."""

    def __init__(self, backbone: nn.Module, hidden: int, width: int = 128) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = SimCLRProjectionHead(feature_width(backbone), hidden, width)

    def forward(self, view: Tensor) -> Tensor:
        projections: Tensor = self.projection_head(self.backbone(view).flatten(start_dim=1))
        return projections


def lightly_dataset(pixels: Pixels, view_size: int, **options: Any) -> Any:
    """The images under lightly's ``SimCLRTransform``, which takes ``options``."""
    transform = SimCLRTransform(input_size=view_size, **options)
    return LightlyDataset.from_torch_dataset(InMemoryImages(pixels), transform=transform)


def lightly_peer(
    backbone: nn.Module,
    batches: DataLoader,
    device: torch.device,
    *,
    hidden: int | None = None,
    temperature: float = 0.5,
    **optimizer_options: Any,
) -> Peer:
    """SimCLR as lightly's README writes it: one forward for each view, NTXentLoss, SGD; defaults are the README's.

    Args:
        hidden: hidden width of the projection head; None: as wide as the features.
        optimizer_options: of ``torch.optim.SGD``; without any, a learning rate of 0.1 and weight decay of 1e-6.
    """
    model = LightlySimCLR(backbone, hidden or feature_width(backbone)).to(device)
    criterion = NTXentLoss(temperature=temperature)
    optimizer = torch.optim.SGD(model.parameters(), **(optimizer_options or {"lr": 0.1, "weight_decay": 1e-6}))

    def loss_of(views: Views) -> Tensor:
        loss: Tensor = criterion(model(views[0]), model(views[1]))
        return loss

    return Peer(model, optimizer, batches, loss_of, device)


class TwoViews:
    """A transform, applied twice."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image) -> Views:
        return [self.transform(image), self.transform(image)]


def tutorial_dataset(pixels: Pixels, view_size: int) -> InMemoryImages:
    """The images under SimCLR's augmentation (Chen et al. 2020, appendix A) by torchvision on PIL images."""
    kernel = view_size // 10 | 1  # a tenth of the image, made odd
    one = transforms.Compose(
        [
            transforms.RandomResizedCrop(view_size),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.RandomApply([transforms.GaussianBlur(kernel, (0.1, 2.0))], p=0.5),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ]
    )
    return InMemoryImages(pixels, TwoViews(one))


class PlainSimCLR(nn.Module):
    """Backbone and a head of two linear layers: N×3×H×W → N×128."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        width = feature_width(backbone)
        self.backbone = backbone
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128))

    def forward(self, views: Tensor) -> Tensor:
        projections: Tensor = self.head(self.backbone(views))
        return projections


def tutorial_peer(backbone: nn.Module, batches: DataLoader, device: torch.device) -> Peer:
    """A plain loop: both views concatenated for one forward, the loss from the whole similarity matrix, Adam."""
    model = PlainSimCLR(backbone).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, weight_decay=1e-4)

    def loss_of(views: Views) -> Tensor:
        z = F.normalize(model(torch.cat(views)), dim=1)
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        logits = (z @ z.t() / 0.07).masked_fill(itself, float("-inf"))
        return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z) // 2))

    return Peer(model, optimizer, batches, loss_of, device)
