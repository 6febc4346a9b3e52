"""``--deterministic``: torch's flags as they should be on a GPU, and its refusals in one line. No GPU is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from twoviews.errors import SettingsError
from twoviews.settings import RunSettings
from twoviews.trainers import determinism
from twoviews.trainers.determinism import CUBLAS, choose_algorithms, naming_operations, repeats_bits, seed_generators
from twoviews.trainers.engine import Engine
from twoviews.trainers.settings_file import FREE, differences


def flags() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


@pytest.fixture(autouse=True)
def torch_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No flag and no variable is left to other tests."""
    before = flags()
    monkeypatch.setenv(CUBLAS, "kept")  # so that what the code sets is taken back with it
    monkeypatch.delenv(CUBLAS)
    yield
    choose_algorithms(False, "cpu")
    assert flags() == before


def test_on_a_gpu_torch_is_told_and_a_run_without_the_wish_undoes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as users:
        users.setattr(torch.backends.cudnn, "benchmark", True)
        choose_algorithms(True, "cuda")
        assert flags() == (True, True, False)
        assert os.environ[CUBLAS] == ":4096:8"
        assert torch.get_deterministic_debug_mode() == 2, "an error, no warning"
        choose_algorithms(True, "cuda")  # a second engine of the process must not take these flags for the user's
        choose_algorithms(False, "cuda")
        assert flags() == (False, False, True)


def test_what_the_user_told_torch_stays() -> None:
    torch.set_deterministic_debug_mode("warn")
    try:
        choose_algorithms(False, "cuda")
        assert torch.get_deterministic_debug_mode() == 1
        choose_algorithms(True, "cuda")
        choose_algorithms(False, "cuda")
        assert torch.get_deterministic_debug_mode() == 1
    finally:
        torch.set_deterministic_debug_mode("default")


@pytest.mark.parametrize(("given", "becomes"), [(":16:8", ":16:8"), (":4096:2:16:8", ":4096:8"), ("", ":4096:8")])
def test_workspaces_that_do_not_repeat_are_replaced(monkeypatch: pytest.MonkeyPatch, given: str, becomes: str) -> None:
    monkeypatch.setenv(CUBLAS, given)
    choose_algorithms(True, "cuda")
    assert os.environ[CUBLAS] == becomes


def test_the_engine_tells_torch_before_it_starts_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reached: list[tuple[bool, bool, bool]] = []

    def started() -> int:
        reached.append(flags())
        raise SettingsError("here the GPU would start")

    monkeypatch.setattr(torch.cuda, "get_device_capability", started)
    with pytest.raises(SettingsError, match="would start"):
        Engine(RunSettings(device="cuda", deterministic=True))
    assert reached == [(True, True, False)]


def test_on_a_cpu_nothing_changes_and_the_log_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    before = flags()
    engine = Engine(RunSettings(device="cpu", deterministic=True))
    assert flags() == before
    assert CUBLAS not in os.environ
    assert engine.repeats
    assert "a CPU repeats a run bit for bit" in capsys.readouterr().out
    Engine(RunSettings(device="cpu"))
    assert capsys.readouterr().out == ""


def test_only_a_cpu_or_the_wish_gives_the_same_bits() -> None:
    assert repeats_bits(False, "cpu")
    assert repeats_bits(True, "cuda")
    assert not repeats_bits(False, "cuda")
    assert not repeats_bits(False, "mps")


def test_mps_promises_nothing() -> None:
    with pytest.raises(SettingsError, match=r"--deterministic: PyTorch .* mps; leave it out"):
        choose_algorithms(True, "mps")


def test_torch_s_own_refusal_becomes_a_line_that_names_the_operation() -> None:
    choose_algorithms(True, "cuda")
    with pytest.raises(SettingsError) as caught, naming_operations():
        torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))  # one that torch refuses on a CPU as well
    message = str(caught.value)
    assert message.startswith("--deterministic: put_ has no form that repeats")
    assert "leave --deterministic out" in message
    assert "\n" not in message
    assert caught.value.exit_code == 2
    assert caught.value.of_all
    choose_algorithms(False, "cuda")
    with naming_operations():
        assert torch.zeros(3).put_(torch.tensor([1]), torch.ones(1)).tolist() == [0, 1, 0]


def test_other_refusals_of_cuda_are_told_apart() -> None:
    backward = (
        "grid_sampler_2d_backward_cuda does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation."
    )
    with pytest.raises(SettingsError, match="grid_sampler_2d_backward_cuda has no form"), naming_operations():
        raise RuntimeError(backward)
    cublas = (
        "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or "
        "`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic because it uses "
        "CuBLAS and you have CUDA >= 10.2."
    )
    with pytest.raises(SettingsError, match=r"start Python with CUBLAS_WORKSPACE_CONFIG=:4096:8"), naming_operations():
        raise RuntimeError(cublas)
    with pytest.raises(RuntimeError, match="out of memory"), naming_operations():
        raise RuntimeError("CUDA out of memory")


def test_a_run_goes_on_only_as_it_began() -> None:
    assert "deterministic" not in FREE
    began = RunSettings(deterministic=True).model_dump(mode="json")
    assert differences(RunSettings(), began) == {"deterministic": "deterministic: True there, False now"}
    without = {key: value for key, value in began.items() if key != "deterministic"}  # from before there was the wish
    assert list(differences(RunSettings(deterministic=True), without)) == ["deterministic"]
    assert differences(RunSettings(), without) == {}


def test_nothing_is_remembered_once_it_is_undone() -> None:
    choose_algorithms(True, "cuda")
    assert determinism._before is not None
    choose_algorithms(False, "cpu")
    assert determinism._before is None


def test_generators_are_seeded_as_pytorch_seeds_them() -> None:
    for seed in (0, 3 * 1_000_003 + 5, 2**63 + 1):
        torch.manual_seed(seed)
        expected = torch.rand(8)
        torch.manual_seed(7)
        seed_generators(seed, torch.device("cpu"))
        assert torch.equal(torch.rand(8), expected)
        assert torch.initial_seed() == seed
