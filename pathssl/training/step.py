"""One step: raw patches -> views -> the teacher's targets -> the student's gradient -> both move."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from pathssl.augment import MultiCrop
from pathssl.devices import Flag
from pathssl.distributed import max_
from pathssl.objectives.dino import Targets, Terms, Views, rows_of, slices
from pathssl.seeding import integer_seed
from pathssl.training.optimiser import clip_gradients, create_optimiser, set_rates
from pathssl.training.parallel import Parallel, local
from pathssl.training.recipe import Recipe


class NotFinite(ArithmeticError):
    """The `what` of a step, "loss" or "gradient", is NaN or infinite in one of the processes; nothing was moved.

    rows, terms: of a loss, this process's micro-batch then; of a gradient, all its patches.
    """

    def __init__(self, what: str, rows: slice, terms: Terms):
        super().__init__(f"the {what} is NaN or infinite")
        self.what, self.rows, self.terms = what, rows, {name: term.item() for name, term in terms.items()}


class Step:
    """Moves `objective` by one step at a time, laid over the processes as `parallel` says.

    micro_batch: the patches that pass at a time, of which this process's share of a batch is a multiple.
    `make_optimiser`(groups, lr=, weight_decay=) gives the optimiser.
    """

    def __init__(
        self,
        objective: nn.Module,
        *,
        views: MultiCrop,
        recipe: Recipe,
        make_optimiser: Callable[..., torch.optim.Optimizer],
        layer_decay: float,
        patch_embed_lr: float,
        micro_batch: int,
        seed: int,
        device: torch.device,
        bf16: bool,
        parallel: dict[str, Any],
    ):
        self.objective, self.views, self.recipe = objective.to(device).train(), views, recipe
        self.micro_batch, self.seed, self.device = micro_batch, seed, device
        self.autocast = torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
        self.parallel = Parallel(objective, device, bf16, parallel)
        self.optimiser = create_optimiser(
            make_optimiser, objective.student, layer_decay=layer_decay, patch_embed_lr=patch_embed_lr
        )
        self.parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        self.last_layers = objective.student.last_layers()

    def take(self, step: int, first_patch: int, patches_BHWC: torch.Tensor, views_seed_B: np.ndarray) -> Terms:
        """The objective's terms, means over this process's patches, which are `first_patch`, `first_patch` + 1, ... of the run.

        Raises NotFinite, before anything has moved, where the loss of any process, or the gradient, is NaN or infinite.
        """
        values = self.recipe.values(step)
        terms = self.gradient(values, first_patch, patches_BHWC, views_seed_B)
        if values["progress"] < self.recipe.freeze_last_layer:
            for parameter in self.last_layers:
                parameter.grad = None
        terms["grad_norm"] = clip_gradients(self.parameters, self.recipe.clip_grad, self.recipe.clip_rule)
        heard = Flag(~torch.isfinite(terms["grad_norm"]))  # the same in all processes, as the gradient is
        set_rates(self.optimiser, values["lr"], values["weight_decay"])
        if heard.is_set():
            self.optimiser.zero_grad(set_to_none=True)
            raise NotFinite("gradient", slice(0, len(patches_BHWC)), terms)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.objective.after_step(values)
        return terms

    def gradient(
        self, values: dict[str, float], first_patch: int, patches_BHWC: torch.Tensor, views_seed_B: np.ndarray
    ) -> Terms:
        """As `take`, up to the gradient, which is that of the mean loss over all processes and micro-batches."""
        views, targets = self.targets(values, patches_BHWC, views_seed_B)
        parts = slices(views, self.micro_batch)
        sums: Terms = {}
        for rows in parts:
            with self.parallel.part_of_step(last=rows == parts[-1]):
                terms = self.losses(first_patch, views, targets, rows)
                heard = Flag(max_((~torch.isfinite(terms["loss"].detach())).int()))
                (terms["loss"] / len(parts)).backward()
            # While a GPU is still busy with the backward pass, the verdict on the loss has arrived.
            if heard.is_set():
                self.optimiser.zero_grad(set_to_none=True)
                raise NotFinite("loss", rows, terms)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach() / len(parts)
        return sums

    def settle(self, first_patch: int, patches_BHWC: torch.Tensor, views_seed_B: np.ndarray) -> None:
        """A gradient of some of these patches, thrown away, for a process that has just started; every process calls it.

        After the first gradient of its life DDP arranges the others by the order in which parameters came, and three processes or more
        sum differently then: without this, the first step of a resumed run would differ from the same step of one that nothing broke.
        """
        if self.parallel.mode != "ddp":
            return
        rows = slice(0, self.micro_batch)
        with suppress(NotFinite):  # the step itself comes to it too
            self.gradient(self.recipe.values(0), first_patch, patches_BHWC[rows], views_seed_B[rows])
        self.optimiser.zero_grad(set_to_none=True)

    def finite(self) -> bool:
        """Whether all of the model's weights are finite numbers, and small enough for their squares to be; every process must ask."""
        norms = torch._foreach_norm([local(tensor) for tensor in self.objective.state_dict().values()])
        broken = ~torch.stack(norms).isfinite().all()
        return not Flag(max_(broken.int())).is_set()

    def targets(
        self, values: dict[str, float], patches_BHWC: torch.Tensor, views_seed_B: np.ndarray
    ) -> tuple[Views, Targets]:
        """The views of this process's patches, and what the teacher asks of the student for them."""
        with torch.no_grad():
            views = self.views(patches_BHWC, views_seed_B) | {"seeds": views_seed_B}
        with self.autocast:
            return views, self.objective.targets(views, values, self.micro_batch)

    def losses(self, first_patch: int, views: Views, targets: Targets, rows: slice) -> Terms:
        """The objective's terms for the patches `rows` of this process, which begin with the run's `first_patch`."""
        # What is drawn inside the model (stochastic depth) follows from the patches, so that a resumed run draws the same.
        torch.manual_seed(integer_seed(self.seed, "step", first_patch + rows.start))
        with self.autocast:
            return self.objective.losses(rows_of(views, rows), targets.of(rows))
