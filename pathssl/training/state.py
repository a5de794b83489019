"""The training state: whole tensors by name, whatever the number of processes and the layout that they were gathered from."""

from typing import Any

import torch
from torch import nn

from pathssl.distributed import is_main
from pathssl.training.parallel import like, local, whole


def gather(objective: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """{"objective": {name: tensor}, "optimiser": {parameter's name: {key: tensor}}}, copies in the CPU's memory, in the first process.

    Every process must ask; those of the others have None for tensors.
    """
    names = {id(parameter): name for name, parameter in objective.student.named_parameters()}
    state = {names[id(parameter)]: kept for parameter, kept in optimiser.state.items()}
    return {
        "objective": {name: _copied(tensor) for name, tensor in objective.state_dict().items()},
        "optimiser": {name: {key: _copied(value) for key, value in kept.items()} for name, kept in state.items()},
    }


def _copied(value: Any) -> Any:
    """A copy in the CPU's memory, which training does not change any more, in the first process."""
    if not isinstance(value, torch.Tensor):
        return value
    found = whole(value.detach())
    return found.to("cpu", copy=True).contiguous() if is_main() else None


@torch.no_grad()
def restore(objective: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Takes back what `gather` gave, into the layout that `objective` has now."""
    own = objective.state_dict()
    if own.keys() != state["objective"].keys():
        raise KeyError(f"the state has other tensors: {sorted(own.keys() ^ state['objective'].keys())[:5]}")
    for name, tensor in own.items():
        local(tensor).copy_(local(like(state["objective"][name], tensor)))
    parameters = dict(objective.student.named_parameters())
    places = {id(p): i for i, p in enumerate(p for group in optimiser.param_groups for p in group["params"])}
    kept = {
        places[id(parameters[name])]: {key: _placed(value, parameters[name]) for key, value in of_one.items()}
        for name, of_one in state["optimiser"].items()
    }
    optimiser.load_state_dict({"state": kept, "param_groups": optimiser.state_dict()["param_groups"]})


def _placed(value: Any, parameter: nn.Parameter) -> Any:
    """A copy; what the optimiser keeps for every element of a parameter is sharded as the parameter is."""
    if not isinstance(value, torch.Tensor):
        return value
    return (like(value, parameter) if value.shape == parameter.shape else value).clone()
