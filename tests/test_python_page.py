"""The code on docs/python.md runs as it stands, from the first block to the last."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import twoviews
from twoviews.model.resnet50 import create_backbone, require_size, resolve_stem
from twoviews.trainers.weights import save_weights

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
ABOUT = {"model": "resnet18_w16", "stem": "small", "image_size": 16, "mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.1]}


def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "models/backbone.safetensors"
    weights.parent.mkdir()
    save_weights(weights, create_backbone("resnet18_w16", "small").state_dict(), ABOUT)
    colour = np.array([200, 100, 50], np.uint8)
    Image.fromarray(np.tile(colour, (20, 30, 1))).save(tmp_path / "a.png")
    asked: list[dict[str, Any]] = []

    def study(data: str, **settings: Any) -> Path:
        asked.append(settings)
        return tmp_path

    monkeypatch.setattr(twoviews, "study", study)
    monkeypatch.setattr("torch.distributed.nn.functional.all_gather", lambda z: [z])
    names: dict[str, Any] = {"__name__": __name__, "files": [tmp_path / "a.png"], "rank": 0}
    names |= {view: torch.randn(4, 6, requires_grad=True) for view in ("first", "second")}
    names["loader"] = [(torch.zeros(2, 3, 40, 40, dtype=torch.uint8), torch.arange(2))]
    names["model"] = lambda images: images.mean(dim=(2, 3))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 6
    assert names["both"].shape == (4, 3, 32, 32)
    assert names["features"].shape == (1, names["backbone"].num_features)
    expected = (torch.from_numpy(colour) / 255 - torch.tensor(ABOUT["mean"])) / torch.tensor(ABOUT["std"])
    torch.testing.assert_close(names["read"](tmp_path / "a.png"), expected[:, None, None].expand(3, 16, 16))
    assert names["loss"].item() == pytest.approx(twoviews.info_nce(names["z"], 0.2)[0].item())
    name = asked[-1]["backbone"]
    require_size(create_backbone(name, resolve_stem("auto", 32, name)), name, 32)
