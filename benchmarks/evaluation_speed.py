"""Seconds and memory of the evaluation: t-SNE, kNN, and the linear probe with its sweep of strengths.

    python benchmarks/evaluation_speed.py [tsne|knn|probe|probe-val ...] [--threads 2] [--seed 0]

The features are made, not extracted: 2,048 dimensions, never negative, ten overlapping classes of correlated features
and noise in every dimension, so that neighbours, maps and probes have something to find. Each measure runs once in a
process of its own, whose line tells the seconds that passed, those that processors worked, the memory it
needed beyond the features (the peak of the resident memory), and what it found. The last line has the machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

CLASSES, DIMENSIONS, LATENT = 10, 2_048, 32
TSNE_IMAGES = 13_000
BANK, QUERIES, K = 100_000, 8_000, 200
PROBE_IMAGES, PROBE_VAL = 5_000, 1_000

Labelled = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def make_features(images: int, seed: int, part: int = 0) -> Labelled:
    """N×2048 float32 and (N,) labels; one ``seed`` has the same classes in each of its parts."""
    shared = np.random.default_rng(seed)
    centres = shared.standard_normal((CLASSES, LATENT), dtype=np.float32) * 0.5
    mixing = shared.standard_normal((LATENT, DIMENSIONS), dtype=np.float32)
    own = np.random.default_rng((seed, part))
    labels = own.integers(0, CLASSES, images)
    features = np.empty((images, DIMENSIONS), dtype=np.float32)
    for begin in range(0, images, 4_096):
        rows = features[begin : begin + 4_096]
        latent = centres[labels[begin : begin + 4_096]] + own.standard_normal((len(rows), LATENT), dtype=np.float32)
        np.matmul(latent, mixing, out=rows)
        rows += 2.0 * own.standard_normal(rows.shape, dtype=np.float32)
        np.maximum(rows, 0.0, out=rows)
    return features, labels


def tsne(seed: int, threads: int) -> Callable[[], dict[str, Any]]:
    """Map of 13,000 images."""
    from twoviews.evaluation.map_quality import map_quality
    from twoviews.evaluation.maps import tsne_map

    features, labels = make_features(TSNE_IMAGES, seed)

    def work() -> dict[str, Any]:
        points = tsne_map(features, threads=threads).points
        return {"trustworthiness": map_quality(features, points, labels).trustworthiness}

    return work


def knn(seed: int, threads: int) -> Callable[[], dict[str, Any]]:
    """Scores of 8,000 images against 100,000."""
    from twoviews.evaluation.knn import KNN

    bank, bank_labels = make_features(BANK, seed)
    queries, labels = make_features(QUERIES, seed, part=1)

    def work() -> dict[str, Any]:
        model = KNN.of(bank, bank_labels, CLASSES, K, 0.1)
        return {"k": K, "top1": float(np.mean(model.predict(queries) == labels))}

    return work


def probe(seed: int, threads: int) -> Callable[[], dict[str, Any]]:
    """Sweep with 5-fold cross-validation on 5,000 images, and the fit of the strength chosen."""
    from twoviews.evaluation.probes import choose_linear_probe

    features, labels = make_features(PROBE_IMAGES, seed)

    def work() -> dict[str, Any]:
        chosen, sweep = choose_linear_probe(features, labels, CLASSES)
        return {"c": chosen.c, "strengths": len(sweep), "cv_top1": max(row["cv_top1"] for row in sweep)}

    return work


def probe_val(seed: int, threads: int) -> Callable[[], dict[str, Any]]:
    """The sweep without cross-validation: each strength fitted on 5,000 images, chosen on 1,000 others."""
    from twoviews.evaluation.probes import choose_linear_probe

    features, labels = make_features(PROBE_IMAGES, seed)
    val = make_features(PROBE_VAL, seed, part=1)

    def work() -> dict[str, Any]:
        chosen, sweep = choose_linear_probe(features, labels, CLASSES, val=val)
        return {"c": chosen.c, "strengths": len(sweep), "val_top1": max(row["val_top1"] for row in sweep)}

    return work


MEASURES = {"tsne": tsne, "knn": knn, "probe": probe, "probe-val": probe_val}


def peak_bytes() -> int:
    """Most memory that this process has held; 0 where the system doesn't say."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def measure(name: str, seed: int, threads: int) -> dict[str, Any]:
    """Run one measure in this process."""
    work = MEASURES[name](seed, threads)
    before = peak_bytes()
    started, worked = time.perf_counter(), time.process_time()
    found = work()
    seconds = time.perf_counter() - started
    return {
        "measure": name,
        "seconds": round(seconds, 2),
        "processor_seconds": round(time.process_time() - worked, 2),
        "beyond_features_mb": round((peak_bytes() - before) / 1e6),
        **found,
        "threads": threads,
        "seed": seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", metavar="|".join(MEASURES), help="all when none is named")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if unknown := set(arguments.measures) - set(MEASURES):
        parser.error(f"no measure is called {', '.join(sorted(unknown))}")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)  # read when a measure's own process starts
    for name in arguments.measures or MEASURES:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            line = pool.submit(measure, name, arguments.seed, arguments.threads).result()
        print(json.dumps(line), flush=True)
    from machine import machine  # not above: the measures' own processes start without torch

    print(json.dumps(machine("numpy", "scikit-learn", "openTSNE")))


if __name__ == "__main__":
    main()
