"""What the clusters of the feature quality check found, in sentences that follow from its numbers.

Every function takes the mapping ``features`` of ``results.json`` and says nothing about what isn't there: runs without
maps, and runs from before a measure was added, have fewer keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twoviews.report.number_words import count, joined, percent
from twoviews.report.values import dig, items, number

WEAK, REASONABLE, STRONG = 0.25, 0.50, 0.70
ALIKE = 0.01
WIDE = 0.03


def cluster_sentences(features: Mapping[str, Any]) -> list[str]:
    """Do clusters match classes: beyond shuffled labels, beyond the luck of a start, beyond an untrained backbone?

    Beyond chance: more accurate than each of the shuffles (of 20: a permutation test at p = 1/21; older runs recorded
    only their mean, which must then be exceeded). Beyond no training: every start above every start on the untrained
    backbone's features; where the ranges overlap, starts alone could explain the difference. The starts disagree if
    their standard deviation is above 3 points.
    """
    found = dig(features, "kmeans") or {}
    accuracy = number(dig(found, "accuracy"))
    if accuracy is None:
        return []
    clusters = number(dig(found, "clusters"))
    many = f"{count(clusters)} clusters agree" if clusters else "The clusters agree"
    sentences = [f"{many} with the classes for {percent(accuracy)} of the images{_beyond_chance(found, accuracy)}."]
    low, high, std = (number(dig(found, "spread", "accuracy", key)) for key in ("min", "max", "std"))
    if low is not None and high is not None and std is not None:
        text = (
            f"Over {count(dig(found, 'starts'))} starts of k-means it ranges from {percent(low)} to {percent(high)} "
            f"(standard deviation {100 * std:.1f} points); shown is the start with the lowest inertia."
        )
        sentences.append(text + (" The starts disagree: one figure is partly luck." if std > WIDE else ""))
    untrained = number(dig(found, "random_init", "accuracy"))
    if untrained is not None:
        sentences.append(_beyond_untrained(found, accuracy, untrained))
    return sentences


def silhouette_sentences(features: Mapping[str, Any]) -> list[str]:
    """Do the clusters part? Bands of the mean silhouette after Kaufman & Rousseeuw (1990, "Finding Groups in Data").

    Up to 0.25 no substantial structure, up to 0.50 a weak one, up to 0.70 a reasonable one, above it a strong one.
    Classes with a silhouette of at most 0 lie as near to another class as to their own.
    """
    found = dig(features, "kmeans", "silhouette") or {}
    clusters, classes = number(dig(found, "clusters")), number(dig(found, "classes"))
    if clusters is None:
        return []
    meaning = (
        "they overlap, with no gap between them"
        if clusters <= WEAK
        else "they part weakly"
        if clusters <= REASONABLE
        else "they part reasonably well"
        if clusters <= STRONG
        else "they part clearly"
    )
    text = f"The clusters' mean silhouette is {_decimal(clusters)} on a scale from −1 to 1: {meaning}."
    if classes is not None:
        text += f" That of the true classes is {_decimal(classes)}"
        text += ": on average an image is no nearer to its own class than to another." if classes <= 0 else "."
    return [text]


def curve_sentences(features: Mapping[str, Any]) -> list[str]:
    """Which number of clusters the silhouette suggests, and whether it stands out.

    It doesn't where another k comes within 0.01, or where even the best silhouette is at most 0.25.
    """
    found = dig(features, "kmeans") or {}
    curve = {
        int(k): value
        for point in items(dig(found, "curve"))
        if (k := number(dig(point, "k"))) is not None and (value := number(dig(point, "silhouette"))) is not None
    }
    best = number(dig(found, "suggested_k"))
    if best is None or int(best) not in curve or len(curve) < 2:
        return []
    k, height = int(best), curve[int(best)]
    text = f"Of the numbers of clusters tried ({joined([str(one) for one in sorted(curve)])}), the silhouette is "
    text += f"highest at {k} ({_decimal(height)})"
    near = [str(one) for one, value in sorted(curve.items()) if one != k and height - value < ALIKE]
    if near:
        text += f", and within 0.01 of it at {joined(near)}, so the choice is not sharp"
    elif height <= WEAK:
        text += ", but so low that no number of clusters fits well"
    if k == max(curve):
        text += "; that is the largest one tried, and more might fit better"
    elif k == min(curve):
        text += "; that is the smallest one tried: the features part coarsely at most"
    classes = number(dig(found, "clusters"))
    if classes is not None:
        relation = "the number" if classes == k else "fewer than" if k < classes else "more than"
        text += f". That is {relation} " + ("used above." if classes == k else f"the {count(classes)} used above.")
        return [text]
    return [text + "."]


def _beyond_chance(found: Mapping[str, Any], accuracy: float) -> str:
    shuffled, most = number(dig(found, "accuracy_shuffled")), number(dig(found, "spread_shuffled", "accuracy", "max"))
    if shuffled is None:
        return ""
    text = f", against {percent(shuffled)} with shuffled labels"
    text += f" (at most {percent(most)})" if most is not None else ""
    return text + (
        ", so beyond chance" if accuracy > (shuffled if most is None else most) else ": no better than chance"
    )


def _beyond_untrained(found: Mapping[str, Any], accuracy: float, untrained: float) -> str:
    text = f"An untrained backbone's clusters reach {percent(untrained)}"
    own, other = dig(found, "spread", "accuracy"), dig(found, "random_init", "spread", "accuracy")
    ends = [number(dig(one, end)) for one in (own, other) for end in ("min", "max")]
    low, high, other_low, other_high = ends
    if low is None or high is None or other_low is None or other_high is None:
        return f"{text}, {100 * abs(accuracy - untrained):.1f} points {'less' if accuracy > untrained else 'more'}."
    text += f" ({percent(other_low)} to {percent(other_high)} over its starts)"
    if low > other_high:
        return f"{text}: every start on SimCLR features does better."
    if high < other_low:
        return f"{text}: every start on SimCLR features does worse."
    return f"{text}: the ranges overlap, so the starts alone could explain the difference."


def _decimal(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
