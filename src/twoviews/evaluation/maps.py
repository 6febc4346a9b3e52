"""Features on a plane: PCA, t-SNE and, where it is installed, UMAP.

A map is for looking. Distances between groups on a t-SNE or UMAP map say little, and no map is read by a probe.
`map_quality` measures how far one can be believed.
"""

from __future__ import annotations

import importlib.util
import warnings
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
"""Principal components that t-SNE and UMAP see, as van der Maaten & Hinton (2008, §4.2) reduce their data (to 30)."""

FEWEST_IMAGES = 4
"""t-SNE compares each image with at least three others."""

UMAP_NEIGHBOURS = 15
"""UMAP's own default (McInnes et al. 2018)."""

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


def tsne_map(
    features: Floats,
    perplexity: float = DEFAULT_PERPLEXITY,
    seed: int = 0,
    threads: int = 1,
    start: Singles | None = None,
) -> TsneMap:
    """t-SNE (van der Maaten & Hinton 2008) in time linear in the images, by openTSNE (Poličar et al. 2024).

    N×D features are reduced to 50 principal components; the map starts from the first two (Kobak & Berens
    2019), so that its large-scale layout is the data's and not the seed's. Same features, seed, perplexity
    and start: same map (beyond 20,000 images, also the same number of threads).

    Args:
        features: N×D, N at least 4.
        perplexity: about how many neighbours count for each image, at least 1; lowered to (N − 1) / 3 for
            fewer than 3 × perplexity + 1 images.
        seed: of the neighbour search beyond 20,000 images, and of the offsets that let equal images part.
        threads: how many may work; −1 for all.
        start: N×2, `pca_map` of other features of these images: maps that start from the same points can be
            compared by eye.

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
    inputs, begin = _inputs_and_start(features, seed, start)
    tsne = openTSNE.TSNE(
        perplexity=used,
        initialization=begin,
        neighbors="exact" if images <= MOST_EXACT_IMAGES else "auto",
        negative_gradient_method="auto",
        n_jobs=threads,
        random_state=seed,
    )
    points = np.asarray(tsne.fit(inputs), dtype=np.float32)
    if not np.isfinite(points).all():
        raise DataError(f"t-SNE of {images} images came out not finite: try another perplexity than {used:g}")
    return TsneMap(points, used)


def require_umap() -> None:
    """Before any work: whether UMAP can be drawn here.

    Raises:
        SettingsError: umap-learn is not installed.
    """
    if importlib.util.find_spec("umap") is None:
        raise SettingsError(
            "--umap needs umap-learn, which is not installed here: `pip install 'twoviews[umap]'`, or leave it out."
        )


def umap_map(features: Floats, seed: int = 0, start: Singles | None = None) -> Singles:
    """UMAP (McInnes, Healy & Melville 2018) of N×D features, by umap-learn: N×2 float32.

    Sees the 50 principal components that `tsne_map` sees, and starts from the first two likewise. On one thread, so
    that the same features and seed give the same map.

    Args:
        features: N×D, N at least 4.
        seed: of the neighbour search and of the order in which points are moved.
        start: as of `tsne_map`.

    Raises:
        DataError: features aren't finite, or there are fewer than four images.
        SettingsError: umap-learn is not installed.
    """
    require_umap()
    checked_features(features, at_least=FEWEST_IMAGES)
    import umap  # slow to import, and needed here only

    inputs, begin = _inputs_and_start(features, seed, start)
    with warnings.catch_warnings():
        # It says that a seed costs it its threads; few or equal images make it complain of its own graph.
        warnings.simplefilter("ignore")
        model = umap.UMAP(
            n_neighbors=min(UMAP_NEIGHBOURS, len(features) - 1),
            init=(begin * 1e5).astype(np.float32),  # it begins ten wide, t-SNE as good as in one point
            random_state=seed,
            n_jobs=1,
        )
        points = np.asarray(model.fit_transform(inputs.astype(np.float32)), dtype=np.float32)
    if not np.isfinite(points).all():
        raise DataError(f"UMAP of {len(features)} images came out not finite: leave --umap out")
    return points


def _inputs_and_start(features: Floats, seed: int, start: Singles | None) -> tuple[Doubles, Doubles]:
    """The principal components that a map is made from, and where its points begin: tiny, near the first two of them
    or near ``start``."""
    inputs = principal_components(features, max(2, min(TSNE_INPUT_DIMENSIONS, features.shape[1])))[0]
    begin = inputs[:, :2] if start is None else start.astype(np.float64)
    # openTSNE's own PCA start divides by a deviation that is zero when a network has collapsed.
    spread = float(begin[:, 0].std())
    offsets = np.random.default_rng(seed).standard_normal((len(features), 2))
    return inputs, (begin / spread if spread > 0 else np.zeros_like(begin)) * 1e-4 + offsets * 1e-6


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
