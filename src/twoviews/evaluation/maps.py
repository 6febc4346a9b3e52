"""Features on a plane: PCA and t-SNE.

A map is for looking. Distances between groups on a t-SNE map say little, and neither map is read by a probe.
`map_quality` measures how far one can be believed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.arrays import (
    TILE_NUMBERS,
    Doubles,
    Floats,
    Singles,
    checked_features,
    one_thread,
)

DEFAULT_PERPLEXITY = 30.0
TSNE_INPUT_DIMENSIONS = 50
"""Principal components that t-SNE sees, as van der Maaten & Hinton (2008, §4.2) reduce their data (to 30)."""

FEWEST_IMAGES = 4
"""t-SNE compares each image with at least three others."""

MOST_EXACT_IMAGES = 20_000
"""Up to here neighbours are found among all pairs: quicker than a search, and threads change nothing."""


class TsneMap(NamedTuple):
    """points: N×2 float32; perplexity: the one used."""

    points: Singles
    perplexity: float


def pca_map(features: Floats) -> tuple[Singles, Doubles]:
    """The two principal components of N×D features.

    The sign is fixed: each component's loading of largest size is positive. So the same features always give
    the same map, and not its mirror image.

    Returns:
        points, N×2 float32, in the units of the features; and the fraction of the total variance that each
        axis explains, (2,) float64 in [0, 1] (zeros if the features don't vary).

    Raises:
        DataError: features aren't finite, or there are fewer than two images.
    """
    points, variances, total = principal_components(checked_features(features, at_least=2), 2)
    return points.astype(np.float32), variances / total if total > 0 else np.zeros(2)


def tsne_map(features: Floats, perplexity: float = DEFAULT_PERPLEXITY, seed: int = 0, threads: int = 1) -> TsneMap:
    """t-SNE (van der Maaten & Hinton 2008) in time linear in the images, by openTSNE (Poličar et al. 2024).

    N×D features are reduced to 50 principal components; the map starts from the first two (Kobak & Berens
    2019), so that its large-scale layout is the data's and not the seed's. Same features, seed and
    perplexity: same map
    (beyond 20,000 images, also the same number of threads).

    Args:
        features: N×D, N at least 4.
        perplexity: about how many neighbours count for each image, at least 1; lowered to (N − 1) / 3 for
            fewer than 3 × perplexity + 1 images.
        seed: of the neighbour search beyond 20,000 images, and of the offsets that let equal images part.
        threads: how many may work; −1 for all.

    Raises:
        DataError: features aren't finite, or there are fewer than four images.
        SettingsError: ``perplexity`` is below 1.
    """
    checked_features(features, at_least=FEWEST_IMAGES)
    if not perplexity >= 1.0:
        raise SettingsError(f"t-SNE can't use perplexity {perplexity}: it must be at least 1")
    import openTSNE  # slow to import, and needed here only

    images = len(features)
    used = min(float(perplexity), (images - 1) / 3)
    inputs, _, total = principal_components(features, max(2, min(TSNE_INPUT_DIMENSIONS, features.shape[1])))
    # openTSNE's own PCA start divides by a deviation that is zero when a network has collapsed.
    spread = max(float(inputs[:, 0].std()), np.finfo(np.float64).tiny)
    offsets = np.random.default_rng(seed).standard_normal((images, 2))
    start = (inputs[:, :2] / spread if total > 0 else np.zeros((images, 2))) * 1e-4 + offsets * 1e-6
    tsne = openTSNE.TSNE(
        perplexity=used,
        initialization=start,
        neighbors="exact" if images <= MOST_EXACT_IMAGES else "auto",
        negative_gradient_method="auto",
        n_jobs=threads,
        random_state=seed,
    )
    points = np.asarray(tsne.fit(inputs), dtype=np.float32)
    if not np.isfinite(points).all():
        raise DataError(f"t-SNE of {images} images came out not finite: try another perplexity than {used:g}")
    return TsneMap(points, used)


def principal_components(features: Floats, count: int) -> tuple[Doubles, Doubles, float]:
    """The first principal components of N×D features, which are not checked here.

    Returns:
        points, N×count float64 (zeros where there are fewer components); the sum of squares along each,
        (count,); and that of the features less their mean.
    """
    images, dimensions = features.shape
    available = min(count, images, dimensions)
    points, variances = np.zeros((images, count)), np.zeros(count)
    mean = features.mean(axis=0, dtype=np.float64)
    # The smaller of D×D and N×N has the same variances; one thread, so that cores don't change the last
    # digit.
    with one_thread():
        if dimensions <= images:
            # In tiles: features in float64 would be more memory than all the rest.
            step = max(1, TILE_NUMBERS // dimensions)
            tiles = [slice(begin, begin + step) for begin in range(0, images, step)]
            products = np.zeros((dimensions, dimensions))
            for tile in tiles:
                rows = features[tile].astype(np.float64) - mean
                products += rows.T @ rows
            found, axes = eigh(products, subset_by_index=(dimensions - available, dimensions - 1))
        else:
            tiles = [slice(0, images)]
            rows = features.astype(np.float64) - mean
            products = rows @ rows.T
            found, on_axes = eigh(products, subset_by_index=(images - available, images - 1))
            axes = rows.T @ on_axes
            axes /= np.maximum(np.linalg.norm(axes, axis=0), np.finfo(np.float64).tiny)
        axes = axes[:, ::-1]
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.where(axes[largest, np.arange(available)] < 0, -1.0, 1.0)
        for tile in tiles:
            points[tile, :available] = (features[tile].astype(np.float64) - mean) @ axes
    variances[:available] = np.maximum(found[::-1], 0.0)
    return points, variances, float(np.trace(products))
