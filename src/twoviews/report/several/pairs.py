"""What a comparison of studies knows of their fine-tuned models image by image; plain data, computed elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """The fine-tuned model of one study minus that of another, on the same test images.

    Attributes:
        a, b: places of the two studies in the list that is compared.
        points: accuracy of a minus that of b, percentage points.
        low, high: ends of its interval.
        p: of McNemar's test; None over several seeds, where the interval decides.
        sign: 1 where a is ahead beyond doubt, −1 where b is, 0 where that stays open; None where interval and test
            disagree.
        seeds: how many pairs of models it is a mean over.
    """

    a: int
    b: int
    points: float
    low: float
    high: float
    p: float | None
    sign: int | None
    seeds: int

    def seen_from(self, place: int) -> Pair:
        """The same pair with this study, one of the two, as a."""
        if place == self.a:
            return self
        sign = None if self.sign is None else -self.sign
        return Pair(self.b, self.a, 0.0 - self.points, 0.0 - self.high, 0.0 - self.low, self.p, sign, self.seeds)


@dataclass(frozen=True)
class Pairing:
    """Which studies can be compared image by image, and every pair of those.

    Attributes:
        group: places of the studies compared, in order; fewer than two: nothing was compared.
        images: test images that they share.
        pairs: every pair of the group.
        level: of each interval, above 0.95 where there are several pairs, so that all of them hold together with 95%.
        method: of the intervals, in a sentence; empty without pairs.
        left_out: why a study isn't in the group, a sentence each.
    """

    group: list[int]
    images: int
    pairs: list[Pair]
    level: float
    method: str
    left_out: list[str]

    def of(self, place: int) -> list[Pair]:
        """This study's pairs, seen from it."""
        return [pair.seen_from(place) for pair in self.pairs if place in (pair.a, pair.b)]
