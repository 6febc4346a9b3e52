"""Do the features fall into the classes by themselves? k-means, and how its clusters agree with the labels.

Features are scaled to length 1 first. SimCLR's loss compares directions (cosine similarity) and leaves
lengths free; unscaled, k-means would split images by the length of their features, which mostly follows
contrast. On the unit sphere, squared distance is 2 − 2·cosine, so that nearest centre and most similar
direction nearly coincide.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.arrays import (
    TILE_NUMBERS,
    Floats,
    Singles,
    Whole,
    checked_features,
    checked_labels,
    on_unit_sphere,
    one_thread,
)
from twoviews.spacing import evenly_spaced

DEFAULT_STARTS = 20
DEFAULT_REPEATS = 20
NO_CLASS = -1

MOST_FITTED = 20_000
"""Of more images, so many evenly spaced ones move the centres; then every image joins its nearest centre."""


@dataclass(frozen=True)
class Clusters:
    """What k-means found.

    Attributes:
        assignments: (N,) int64, cluster of each image in [0, k).
        distances: (N,) float32, Euclidean distance of each image, scaled to length 1, to its centre.
        centres: k×D float32, means of features of length 1.
        inertia: what k-means makes small: the sum of the squared distances.
    """

    assignments: Whole
    distances: Singles
    centres: Singles
    inertia: float


class Agreement(NamedTuple):
    """How far clusters agree with classes.

    Attributes:
        accuracy: fraction of images whose cluster was given their class, in [0, 1].
        nmi: normalised mutual information (arithmetic mean), in [0, 1]; 0 for independent partitions only on
            average over infinitely many images, hence `shuffled_agreement`.
        ari: adjusted Rand index (Hubert & Arabie 1985), at most 1; 0 is chance.
        mapping: (k,) int64, class given to each cluster, or −1 where clusters outnumber classes.
    """

    accuracy: float
    nmi: float
    ari: float
    mapping: Whole


class Spread(NamedTuple):
    """Of one measure over repeats; std is the sample's (n − 1), 0 for a single value."""

    mean: float
    std: float
    min: float
    max: float


class AgreementSpread(NamedTuple):
    """Of the measures of `Agreement`."""

    accuracy: Spread
    nmi: Spread
    ari: Spread


def kmeans_clusters(features: Floats, k: int, seed: int = 0, starts: int = DEFAULT_STARTS) -> Clusters:
    """The start with the lowest inertia of `kmeans_starts`: chosen without labels."""
    return lowest_inertia(kmeans_starts(features, k, seed, starts))


def lowest_inertia(starts: Sequence[Clusters]) -> Clusters:
    """The start that k-means itself would choose; the first of equals."""
    return min(starts, key=lambda found: found.inertia)


def kmeans_starts(features: Floats, k: int, seed: int = 0, starts: int = DEFAULT_STARTS) -> list[Clusters]:
    """k-means on N×D features scaled to length 1, from ``starts`` different k-means++ starts.

    The same features and seed give the same clusters, however many cores there are.

    Raises:
        DataError: features aren't finite, or there are fewer images than clusters.
        SettingsError: ``k`` or ``starts`` is below 1.
    """
    if k < 1 or starts < 1:
        raise SettingsError(f"k-means can't use {k} clusters and {starts} starts: both must be at least 1")
    checked_features(features)
    if len(features) < k:
        raise DataError(f"k-means can't make {k} clusters of {len(features)} images")
    rows = on_unit_sphere(features)
    fitted = rows[evenly_spaced(len(rows), max(k, MOST_FITTED))]
    found = []
    with one_thread(), warnings.catch_warnings():
        # Fewer different images than clusters leave some clusters empty: that shows in the result.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for state in np.random.SeedSequence(seed).generate_state(starts):
            model = KMeans(k, n_init=1, random_state=int(state), algorithm="lloyd").fit(fitted)
            labels = model.labels_ if len(fitted) == len(rows) else model.predict(rows)
            assignments, centres = labels.astype(np.int64), model.cluster_centers_.astype(np.float32)
            distances = _distances(rows, centres, assignments)
            inertia = float(np.sum(distances.astype(np.float64) ** 2))
            found.append(Clusters(assignments, distances, centres, inertia))
    return found


def joined(features: Floats, found: Clusters) -> Clusters:
    """The clusters with more images: each joins the centre nearest to it, and no centre moves.

    Args:
        features: M×D of the images to join, in any number.
        found: what k-means found on others, whose rows come first in the result.

    Raises:
        DataError: features aren't finite.
    """
    rows = on_unit_sphere(checked_features(features, at_least=0))
    centres = found.centres.astype(np.float64)
    assignments = np.empty(len(rows), dtype=np.int64)
    with one_thread():
        for part in _parts(len(rows), rows.shape[1]):
            # A squared distance less the row's own square, which is the same for all centres.
            away = np.sum(centres**2, axis=1) - 2 * (rows[part].astype(np.float64) @ centres.T)
            assignments[part] = away.argmin(axis=1)
    distances = _distances(rows, found.centres, assignments)
    return Clusters(
        np.concatenate([found.assignments, assignments]),
        np.concatenate([found.distances, distances]),
        found.centres,
        found.inertia + float(np.sum(distances.astype(np.float64) ** 2)),
    )


def cluster_agreement(assignments: Whole, labels: Whole, classes: int) -> Agreement:
    """Accuracy under the best one-to-one mapping of clusters to classes (Hungarian algorithm), NMI and ARI.

    The mapping is chosen with the labels it is scored on: read the accuracy beside `shuffled_agreement`, its
    level without any agreement. An image in a cluster without a class counts as wrong.

    Args:
        assignments: (N,) cluster of each image, from 0.
        labels: (N,) class of each image in [0, classes).
        classes: number of classes.

    Raises:
        DataError: no images, lengths that differ, or a number out of range.
    """
    labels, clusters = _checked(assignments, labels, classes)
    together = np.zeros((clusters, classes), dtype=np.int64)
    np.add.at(together, (assignments, labels), 1)
    chosen_clusters, chosen_classes = linear_sum_assignment(together, maximize=True)
    mapping = np.full(clusters, NO_CLASS, dtype=np.int64)
    mapping[chosen_clusters] = chosen_classes
    return Agreement(
        accuracy=float(together[chosen_clusters, chosen_classes].sum() / len(labels)),
        nmi=float(normalized_mutual_info_score(labels, assignments)),
        ari=float(adjusted_rand_score(labels, assignments)),
        mapping=mapping,
    )


def spread_over_starts(starts: Sequence[Clusters], labels: Whole, classes: int) -> AgreementSpread:
    """How much `cluster_agreement` depends on where k-means began."""
    return _spread([cluster_agreement(found.assignments, labels, classes) for found in starts])


def shuffled_agreement(
    assignments: Whole, labels: Whole, classes: int, seed: int = 0, repeats: int = DEFAULT_REPEATS
) -> AgreementSpread:
    """`cluster_agreement` with the labels dealt out anew at random ``repeats`` times: the level of chance.

    If no shuffle reaches the true labels' accuracy, that is a permutation test with p = 1 / (repeats + 1).
    """
    labels, _ = _checked(assignments, labels, classes)
    if repeats < 1:
        raise SettingsError(f"labels can't be shuffled {repeats} times: at least once is needed")
    generator = np.random.default_rng(seed)
    return _spread([cluster_agreement(assignments, generator.permutation(labels), classes) for _ in range(repeats)])


def _spread(found: Sequence[Agreement]) -> AgreementSpread:
    values = np.array([(one.accuracy, one.nmi, one.ari) for one in found])
    std = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(3)
    each = zip(values.mean(axis=0), std, values.min(axis=0), values.max(axis=0), strict=True)
    return AgreementSpread(*(Spread(*(float(number) for number in numbers)) for numbers in each))


def _distances(rows: Singles, centres: Singles, assignments: Whole) -> Singles:
    """Of each row to its own centre, in tiles: rows less their centres would be one more copy of all."""
    distances = np.empty(len(rows), dtype=np.float32)
    for part in _parts(len(rows), rows.shape[1]):
        distances[part] = np.linalg.norm(rows[part] - centres[assignments[part]], axis=1)
    return distances


def _parts(images: int, dimensions: int) -> list[slice]:
    """Rows in tiles of bounded size."""
    step = max(1, TILE_NUMBERS // dimensions)
    return [slice(begin, begin + step) for begin in range(0, images, step)]


def _checked(assignments: Whole, labels: Whole, classes: int) -> tuple[Whole, int]:
    """Labels, and the number of clusters."""
    if not len(assignments):
        raise DataError("no images: clusters can't be compared with classes")
    labels = checked_labels(labels, len(assignments), classes)
    if assignments.min() < 0:
        raise DataError(f"cluster {assignments.min()} isn't one: clusters are counted from 0")
    return labels, int(assignments.max()) + 1
