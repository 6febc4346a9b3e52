"""The page's still maps are turned to match SimCLR's and say so; UMAP is among them where a run has it."""

from __future__ import annotations

import numpy as np
import pytest

from twoviews.report.data import ReportData
from twoviews.report.features import section
from twoviews.report.features.aligned import aligned
from twoviews.report.image_index import Index, Maps
from twoviews.report.pictures import Picture
from twoviews.report.run import Run
from twoviews.report.stage_files import Stage

RANDOM = np.random.default_rng(0)
HERE = RANDOM.normal(size=(40, 2))
TURN = np.array([[0.6, 0.8], [0.8, -0.6]])  # a rotation and a mirror
FOLLOWED = "start from the same coordinates and are turned, mirrored and sized to match SimCLR’s (Procrustes)"


def maps_of(**points):
    names = [str(i) for i in range(40)]
    return Maps(dict(points), np.zeros(40, dtype=np.int64), ["a"], Index(names, ["test"] * 40, names, ["a"] * 40))


def test_other_models_are_turned_to_match_simclr_and_it_stays():
    moved = 3 * HERE @ TURN + 7
    found = aligned(
        maps_of(
            finetuned_tsne=moved, pretrained_tsne=HERE, random_init_umap=moved, pretrained_umap=HERE,
            supervised_pca=moved, pretrained_pca=HERE, pretrained_other=HERE,
        )
    ).points  # fmt: skip
    for name in ("pretrained_tsne", "pretrained_umap", "pretrained_pca", "pretrained_other"):
        np.testing.assert_array_equal(found[name], HERE)
    for name in ("finetuned_tsne", "random_init_umap"):
        np.testing.assert_allclose(found[name], HERE, atol=1e-12)
    # PCA's axes have a meaning: mirrored, never turned or sized.
    centred, pca = moved - moved.mean(0), found["supervised_pca"] - found["supervised_pca"].mean(0)
    np.testing.assert_allclose(np.abs(pca), np.abs(centred))
    assert ((pca * (HERE - HERE.mean(0))).sum(axis=0) >= 0).all()


def test_without_simclr_the_first_backbone_is_matched():
    found = aligned(maps_of(supervised_tsne=HERE @ TURN, finetuned_tsne=HERE)).points
    np.testing.assert_array_equal(found["finetuned_tsne"], HERE)
    np.testing.assert_allclose(found["supervised_tsne"], HERE, atol=1e-12)


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Titles of the section's groups → how to read them and what is over their pictures, of a run with these maps."""
    monkeypatch.setattr(section, "embed", lambda figure, alt, title="": Picture("data:", alt, title))

    def of(**tested):
        run = Run(folder=tmp_path, kind="study", stages={"test": Stage("test", tmp_path)})
        monkeypatch.setattr(Run, "maps", lambda self, stage: maps_of(**tested) if stage == "test" else None)
        found = section.feature_section(ReportData(run))
        return {one.title: (one.read, [picture.title for picture in one.pictures]) for one in found.groups}

    return of


def test_umap_is_shown_where_there_is_one(groups):
    found = groups(**{f"{model}_{kind}": HERE for model in section.UMAP_MODELS for kind in ("tsne", "umap", "pca")})
    read, titles = found["UMAP of test images"]
    assert titles == ["After SimCLR", "Untrained backbone", "Supervised baseline", "SimCLR, fine-tuned"]
    assert FOLLOWED in read
    assert "distances between maps mean nothing" in read
    assert FOLLOWED in found["t-SNE of test images after training"][0]
    assert "UMAP of test images" not in groups(pretrained_tsne=HERE, finetuned_tsne=HERE)


def test_that_maps_can_be_followed_is_said_only_where_simclr_s_is_among_several(groups):
    assert FOLLOWED not in groups(finetuned_tsne=HERE)["t-SNE of test images after training"][0]
    assert FOLLOWED not in groups(finetuned_tsne=HERE, supervised_tsne=HERE)["t-SNE of test images after training"][0]
