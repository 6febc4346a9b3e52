"""The kinds of maps, by the key that ``maps.npz`` and ``results.json`` have: the one home of their names."""

from __future__ import annotations

# In the order in which the page offers them.
MAP_NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}

NEARNESS = ("tsne", "umap")
"""Maps whose axes mean nothing: they may be turned. PCA's are only mirrored."""
