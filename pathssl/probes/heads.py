"""Linear heads of several runs, trained at once as one batch of models.

Axes: R runs, B samples of a batch, N samples, D features, K classes; O outputs of a head: K, or 1 where there are two classes.
Samples stand last in logits: on CPUs the products of narrow matrices are several times faster that way.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LinearHeads(nn.Module):
    """R linear layers that share nothing, each drawn from its own generator as torch.nn.Linear draws its one.

    Two classes have a single output, the logit of the second: with two outputs the same learning rate would move their
    difference twice as fast.
    """

    def __init__(self, dim: int, classes: int, generators: list[torch.Generator]):
        super().__init__()
        outputs = 1 if classes == 2 else classes
        bound = dim**-0.5
        drawn = [torch.empty(outputs, dim + 1).uniform_(-bound, bound, generator=each) for each in generators]
        stacked = torch.stack(drawn)
        self.weight_ROD = nn.Parameter(stacked[..., :-1].contiguous())
        self.bias_RO1 = nn.Parameter(stacked[..., -1:].contiguous())

    def forward(self, features_RND: Tensor) -> Tensor:
        """(R, O, N) logits of each run's own samples."""
        return torch.baddbmm(self.bias_RO1, self.weight_ROD, features_RND.transpose(1, 2))

    def of_all(self, features_ND: Tensor) -> Tensor:
        """(R, O, N) logits of samples that all runs look at."""
        logits_NRO = F.linear(features_ND, self.weight_ROD.flatten(0, 1), self.bias_RO1.flatten())
        return logits_NRO.T.unflatten(0, self.weight_ROD.shape[:2])


def loss_R(logits_RON: Tensor, labels_RN: Tensor) -> Tensor:
    """The mean cross-entropy of each run; its binary form for a single output."""
    if logits_RON.shape[1] == 1:
        targets_RN = labels_RN.to(logits_RON.dtype)
        return F.binary_cross_entropy_with_logits(logits_RON[:, 0], targets_RN, reduction="none").mean(dim=1)
    return F.cross_entropy(logits_RON, labels_RN, reduction="none").mean(dim=1)


def probabilities(logits_RON: Tensor) -> Tensor:
    """(R, N, K)."""
    if logits_RON.shape[1] == 1:
        second_RN = logits_RON[:, 0].sigmoid()
        return torch.stack([1 - second_RN, second_RN], dim=2)
    return logits_RON.softmax(dim=1).transpose(1, 2)


def balanced_accuracies(logits_RON: Tensor, labels_N: Tensor, classes: int) -> Tensor:
    """(R,) the mean recall over the classes that occur in `labels_N`, as metrics.balanced_accuracy has it."""
    onehot_NK = F.one_hot(labels_N, classes).to(logits_RON.dtype)
    count_K = onehot_NK.sum(dim=0)
    hits_RK = _hits(logits_RON, labels_N) @ onehot_NK
    return (hits_RK / count_K.clamp(min=1)).sum(dim=1) / (count_K > 0).sum()


def accuracies(logits_RON: Tensor, labels_N: Tensor) -> Tensor:
    """(R,) the share of samples that are right, whatever their class."""
    return _hits(logits_RON, labels_N).mean(dim=1)


def _hits(logits_RON: Tensor, labels_N: Tensor) -> Tensor:
    """(R, N) 1 where the label is predicted, else 0."""
    single = logits_RON.shape[1] == 1
    predictions_RN = (logits_RON[:, 0] > 0).long() if single else logits_RON.argmax(dim=1)
    return (predictions_RN == labels_N).to(logits_RON.dtype)
