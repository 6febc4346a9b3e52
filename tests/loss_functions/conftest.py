"""What holds of InfoNCE holds of its decoupled form."""

from __future__ import annotations

import pytest


@pytest.fixture(params=[False, True], ids=["info_nce", "dcl"])
def decoupled(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)
