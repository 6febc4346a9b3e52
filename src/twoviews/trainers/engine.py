"""Devices, processes and precision: the only file that knows Lightning Fabric."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from twoviews.cpus import usable_cpus
from twoviews.errors import CheckpointError, SettingsError
from twoviews.model.batchnorm import join_batchnorm
from twoviews.model.batchnorm_start import kernels
from twoviews.model.convolution import speed_up_convolutions
from twoviews.model.fused_resnet import fuse_resnets
from twoviews.processor import image_layout
from twoviews.settings import RunSettings
from twoviews.trainers.determinism import choose_algorithms, repeats_bits, what_it_does
from twoviews.trainers.device import choose_device, choose_precision, compile_for_sizes
from twoviews.trainers.gather import gather_rows
from twoviews.trainers.leaving import is_one_of_several
from twoviews.trainers.optimizer import norm_of, parameters_of
from twoviews.trainers.progress import say

# How long processes wait for the first one, which alone checks features, tests and draws: torch's half an hour is too
# short for that on large sets. Where a process dies (leaving.py), torchrun ends the others.
_PATIENCE = timedelta(days=1)


class Engine:
    """Where a run computes.

    Attributes:
        device: of this process.
        precision: float32, bf16 or fp16.
        rank, world_size: this process's number, and how many there are.
        repeats: whether the same start ends with the same bits, as on a CPU; on a GPU, with ``--deterministic``.
        can_record: whether steps can be recorded and played back (``cuda_graph.py``): on one GPU, without fp16's
            scaler.
    """

    def __init__(self, settings: RunSettings) -> None:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        # torchrun says how many there are; then --devices need not.
        local = int(os.environ.get("LOCAL_WORLD_SIZE", settings.devices))
        world = int(os.environ.get("WORLD_SIZE", local))
        kind = choose_device(settings.device, world)
        # Before anything computes on the GPU: cuBLAS reads its workspaces once.
        choose_algorithms(settings.deterministic, kind)
        self.repeats = repeats_bits(settings.deterministic, kind)
        if settings.deterministic:
            say(what_it_does(kind))
        if kind == "mps":
            say("warning: twoviews has not been run on Apple's GPUs (mps); compare a short run with --device cpu")
        self.precision = choose_precision(settings.precision, kind)
        # In a container torch sees every processor of the machine; more threads than its share of time only wait.
        threads = settings.threads or usable_cpus()
        if settings.threads or threads < torch.get_num_threads():
            torch.set_num_threads(threads)
        if kind == "cuda" and local > torch.cuda.device_count():
            raise SettingsError(f"--devices {local}: this machine has {torch.cuda.device_count()} GPUs.")
        names = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._fabric = Fabric(
                accelerator=kind,
                devices=local,
                num_nodes=max(1, world // local),
                # Every process has the same buffers, since BatchNorm sees the joint batch.
                strategy=DDPStrategy(broadcast_buffers=False, timeout=_PATIENCE) if world > 1 else "auto",
                precision=names[self.precision],  # type: ignore[arg-type]
            )
            if world > 1:
                launcher: Any = self._fabric.strategy.launcher
                is_one_of_several(getattr(launcher, "procs", []))  # it will fill the list
            self._fabric.launch()
        self.device: torch.device = self._fabric.device
        self.rank: int = self._fabric.global_rank
        self.world_size: int = self._fabric.world_size
        self._first_state = self.state()
        self.can_record = kind == "cuda" and self.world_size == 1 and not self.scales_loss

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def threads(self) -> int:
        """CPU threads of this process."""
        return torch.get_num_threads()

    def to_device(self, module: nn.Module) -> nn.Module:
        """The module on this process's device, with its layers as they are fastest there."""
        if self.device.type == "cpu":
            module = fuse_resnets(speed_up_convolutions(module))
        return module.to(self.device).to(memory_format=image_layout(self.device))

    def setup(self, module: nn.Module, optimizer: Optimizer, *, compiled: bool = False) -> tuple[Any, Any]:
        """The module and optimizer to call and step; over several processes, with gradients averaged.

        ``compiled`` by torch.compile: what is called, not the module itself, which evaluation goes on to use.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            called: Any = compile_for_sizes(module) if compiled else module
            wrapped = self._fabric.setup(called, optimizer)
        return wrapped[0], wrapped[1]

    def join_processes(self, module: nn.Module) -> nn.Module:
        """BatchNorm over the joint batch of all processes.

        Raises:
            SettingsError: the module has a kind of BatchNorm that can't be joined.
        """
        return module if self.world_size == 1 else join_batchnorm(module, on_gpu=self.device.type == "cuda")

    def autocast(self) -> AbstractContextManager[Any]:
        """Forward passes outside a wrapped module, in the run's precision."""
        return self._fabric.autocast()

    def without_averaging(self, module: Any) -> AbstractContextManager[Any]:
        """Forward and backward passes whose gradients wait for a later backward to be averaged over processes."""
        if self.world_size == 1:
            return nullcontext()
        return self._fabric.no_backward_sync(module)

    def backward(self, loss: Tensor) -> None:
        """Gradients, with fp16's scaling where it is used."""
        self._fabric.backward(loss)

    def gradient_norm(self, optimizer: Any) -> Tensor:
        """L2 norm of the gradient over all parameters, 0-dimensional on the device; fp16's scaling is undone."""
        raw: Optimizer = getattr(optimizer, "optimizer", optimizer)
        self._fabric._precision.unscale_gradients(raw)
        return norm_of([p.grad for p in parameters_of(raw) if p.grad is not None])

    def clip(self, optimizer: Any, norm: Tensor, largest: float) -> None:
        """Scale the gradients, whose norm is ``norm``, down to ``largest``; smaller ones stay as they are."""
        nn.utils.clip_grads_with_norm_(parameters_of(optimizer), largest, norm)

    def gather(self, rows: Tensor) -> Tensor:
        """n×D of each process → (world·n)×D of all, process 0 first, with gradient."""
        if self.world_size == 1:
            return rows
        return gather_rows(rows)

    def mean(self, value: Tensor) -> Tensor:
        """Mean over processes, without gradient."""
        if self.world_size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.world_size

    def mean_of(self, values: list[float]) -> list[float]:
        """For each value, its mean over processes, to float32 where there are several."""
        if self.world_size == 1 or not values:
            return values
        means: list[float] = self.mean(torch.tensor(values, dtype=torch.float32, device=self.device)).tolist()
        return means

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set in any process."""
        if self.world_size == 1:
            return list(flags)
        return [share > 0 for share in self.mean(torch.tensor(flags, dtype=torch.float32, device=self.device)).tolist()]

    def share(self, text: str) -> str:
        """The first process's text, in every process."""
        return str(self._fabric.broadcast(text)) if self.world_size > 1 else text

    def require_same(self, value: int, what: str) -> None:
        """Look whether every process has the same.

        Args:
            value: of this process.
            what: what is said where they differ.

        Raises:
            CheckpointError: they differ; in every process.
        """
        least, most = self.lowest(value), -self.lowest(-value)
        if least != most:
            raise CheckpointError(f"{what} ({least:.0f} and {most:.0f})")

    def lowest(self, value: float) -> float:
        """The lowest of the processes' values."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float32 if self.device.type == "mps" else torch.float64)
        tensor = tensor.to(self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
        return float(tensor)

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.world_size > 1:
            self._fabric.barrier()

    def synchronize(self) -> None:
        """Wait for the device: only for timing."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    @property
    def _scaler(self) -> Any:
        return getattr(self._fabric._precision, "scaler", None)

    @property
    def scales_loss(self) -> bool:
        """Whether the loss is scaled (fp16): then a step whose gradient is not finite is left out, and normal."""
        return self._scaler is not None

    @property
    def can_fuse(self) -> bool:
        """Whether an optimizer may update all weights in one pass: Fabric can't clip for it with fp16's scaler."""
        return not self.scales_loss and self.device.type in ("cpu", "cuda")

    def loss_scale(self) -> float | None:
        """What fp16's loss is scaled by; a wait for the device. None in other precisions."""
        return float(self._scaler.get_scale()) if self._scaler is not None else None

    def state(self) -> dict[str, Any]:
        """State of fp16's gradient scaler, or nothing."""
        return dict(self._scaler.state_dict()) if self._scaler is not None else {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` gave; an empty one is that of a training that begins."""
        if self._scaler is not None:
            self._scaler.load_state_dict(state or self._first_state)

    def _batchnorm(self) -> str:
        """What computes BatchNorm where the backbone is a ResNet."""
        alone_on_cpu = self.device.type == "cpu" and self.world_size == 1
        return "numba" if alone_on_cpu and kernels() is not None else "torch"

    def describe(self) -> dict[str, Any]:
        """The machine, for environment.json."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        return {
            "platform": sys.platform,
            "device": self.device.type,
            "gpu": name,
            "precision": self.precision,
            "threads": self.threads,
            "batchnorm": self._batchnorm(),
            "processes": self.world_size,
        }
