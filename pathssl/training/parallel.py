"""How a model is laid over the processes that train it: whole in each (DDP), or in parts (FSDP2)."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from pathssl.distributed import is_main, sum_, world_size
from pathssl.errors import UserError

MODES = ("ddp", "fsdp")
_GRAPHS = 8  # of a block at most: for training and not, with gradient and without


class Parallel:
    """Lays `objective` over the processes: `mode` ddp or fsdp; a single process has the model as it is.

    activation_checkpointing: the student's blocks are computed again for the backward pass rather than kept. compile: blocks are compiled.
    Both change how a step is computed and what memory it takes, not what it learns.
    """

    def __init__(self, objective: nn.Module, device: torch.device, bf16: bool, settings: dict[str, Any]):
        mode = settings["mode"]
        if mode not in MODES:
            raise UserError(f"parallel.mode={mode} is not one of {', '.join(MODES)}.")
        student, teacher = objective.student, objective.teacher
        if settings["activation_checkpointing"]:
            student.encoder.set_grad_checkpointing(True)
        if settings["compile"]:
            _compile([*student.encoder.blocks, *teacher.encoder.blocks])
        self.mode = mode if world_size() > 1 else "single"
        self._wrapped: nn.Module = student
        # What the first process probes where no process has all of the teacher.
        self.plain_encoder = copy.deepcopy(teacher.encoder).cpu() if self.mode == "fsdp" and is_main() else None
        if self.mode == "fsdp":
            mesh = init_device_mesh(device.type, (world_size(),))
            # Heads and embeddings stay in float32: prototypes are normalised, and their small changes matter. So do the vectors of
            # the blocks (norms, layer scales), and what passes from block to block, as they do where one process has the whole model.
            whole_precision = MixedPrecisionPolicy(cast_forward_inputs=False)
            policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
            for network in (student, teacher):
                for block in network.encoder.blocks:
                    if bf16:
                        fully_shard(_of_vectors(block), mesh=mesh, mp_policy=whole_precision)
                    fully_shard(block, mesh=mesh, mp_policy=policy if bf16 else whole_precision)
                # No backward pass would cut the teacher into its parts again, and its parts are what is moved.
                fully_shard(network, mesh=mesh, reshard_after_forward=network is teacher)
        elif self.mode == "ddp":
            devices = [device] if device.type == "cuda" else None
            self._wrapped = DistributedDataParallel(student, device_ids=devices, gradient_as_bucket_view=True)
        objective.run_through(self._wrapped)

    @contextmanager
    def part_of_step(self, last: bool) -> Iterator[None]:
        """A micro-batch's forward and backward pass inside: gradients are averaged over the processes after the last one only."""
        if isinstance(self._wrapped, FSDPModule):
            self._wrapped.set_requires_gradient_sync(last)
            yield
        elif isinstance(self._wrapped, DistributedDataParallel) and not last:
            with self._wrapped.no_sync():
                yield
        else:
            yield


def _compile(blocks: list[nn.Module]) -> None:
    """Compiles each block, once for all sizes of views: blocks differ in their rate of stochastic depth, which is a constant of a graph."""
    for name in (
        "recompile_limit",
        "accumulated_recompile_limit",
    ):  # beyond which blocks would silently stay as they are
        setattr(torch._dynamo.config, name, max(getattr(torch._dynamo.config, name), _GRAPHS * len(blocks)))
    for block in blocks:
        block.compile(dynamic=True)


@contextmanager
def as_written() -> Iterator[None]:
    """Inside, nothing runs compiled: the graphs of a step are to be those of its own shapes, whatever was computed before it."""
    with torch.compiler.set_stance("force_eager"):
        yield


def _of_vectors(block: nn.Module) -> list[nn.Module]:
    """The modules of a block whose own parameters are vectors: norms and layer scales."""
    own = {module: list(module.parameters(recurse=False)) for module in block.modules()}
    return [module for module, found in own.items() if found and all(parameter.ndim == 1 for parameter in found)]


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor that may be sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be sharded; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """`tensor`, whole and the same in all processes, sharded as `other` is."""
    if not isinstance(other, DTensor):
        return tensor
    # None: every process cuts its own part, and nothing is sent.
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def norms(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The L2 norm of each tensor, over all of its parts."""
    parts = [local(tensor) for tensor in tensors]
    of_parts = torch._foreach_norm(parts)
    if not any(isinstance(tensor, DTensor) for tensor in tensors):
        return of_parts
    return list(sum_(torch.stack(of_parts).square()).sqrt())
