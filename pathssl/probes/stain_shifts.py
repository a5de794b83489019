"""The same tissue in another stain: patches before and after shifts of a published range.

Axes: N patches of a set, B of a batch; H, W pixels; R, O the three colours before and after; D features, K classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from pathssl.augment.stain import HED_FROM_RGB, RGB_FROM_HED
from pathssl.errors import UserError
from pathssl.metrics import apart, shift_distance
from pathssl.probes.feature_set import FeatureSet, ProtocolResult, Split
from pathssl.probes.images import array_batches
from pathssl.probes.task import Task
from pathssl.seeding import uniforms

Measure = Callable[[Iterable[np.ndarray]], np.ndarray]  # batches (B, H, W, 3) uint8 -> features (N, D)

ADDED = 2.0  # to the intensities of 0 ... 1 before the logarithm, as the released code has it


class StainShifts:
    """Shifts haematoxylin, eosin and residual of each patch at random: stain s becomes alpha s + beta.

    alpha in [1 - sigma, 1 + sigma] and beta in [-sigma, sigma], uniformly, for each sigma of `sigmas`; Tellez et al., "Quantifying the
    effects of data augmentation and stain color normalization in convolutional neural networks for computational pathology" (2019)
    calls sigma 0.05 HED-light and 0.2 HED-strong. Their numbers mean what they mean in their group's released code, which separates
    ln(x + 2) rather than ln(x): we do the same. (The `hed` of our views has scikit-image's units of today, in which 0.05 shifts
    about twice as far and 0.2 leaves many patches white or black.) The k-th patch of a set has the same draw for all encoders, and
    in all sigmas the same direction. At most `patches` patches of a set are shifted.
    """

    def __init__(self, sigmas: Sequence[float], *, patches: int, seed: int):
        self.sigmas = [float(sigma) for sigma in sigmas]
        self.patches, self.seed = patches, seed
        if not all(0 < sigma <= 1 for sigma in self.sigmas) or len(set(self.sigmas)) < len(self.sigmas) or patches < 2:
            raise UserError(
                f"robustness: stain={list(sigmas)}, patches={patches}: give different sigmas above 0 and at most 1 ([] for none), and two "
                "patches or more."
            )

    def distances(
        self, images_NHWC: np.ndarray, features_ND: np.ndarray, measure: Measure, batch_size: int
    ) -> dict[str, float]:
        """{"unsupervised/stain_distance_<sigma>": how far shifts move features, as a share of how far apart patches are}, and that itself,
        "unsupervised/apart"; empty without sigmas."""
        before_ND, images_NHWC = features_ND[: self.patches], images_NHWC[: self.patches]
        distances = {"unsupervised/apart": apart(before_ND)} if self.sigmas else {}
        for sigma in self.sigmas:
            after_ND = measure(self.shifted(array_batches(images_NHWC, batch_size), sigma))
            distances[f"unsupervised/stain_distance_{sigma:g}"] = shift_distance(before_ND, after_ND)
        return distances

    def splits(self, task: Task, measure: Measure, batch_size: int) -> dict[str, Split]:
        """{name: some samples of the task's final split, shifted} for each sigma; see `flips`."""
        final = "test" if "test" in task.splits_N else "val"
        rows = task.some_of(final, self.patches, self.seed)
        splits = {}
        for sigma in self.sigmas:
            after_ND = measure(self.shifted(task.images.some(rows, batch_size), sigma))
            splits[f"{final}_stain_{sigma:g}"] = task.split_of(rows, after_ND)
        return splits

    def shifted(self, batches: Iterable[np.ndarray], sigma: float) -> Iterator[np.ndarray]:
        """The batches with every patch in another stain."""
        start = 0
        for images_BHWC in batches:
            u_B6 = 2 * uniforms(self.seed, "stain shift", start + np.arange(len(images_BHWC)), 6) - 1
            yield shift(images_BHWC, 1 + sigma * u_B6[:, :3], sigma * u_B6[:, 3:])
            start += len(images_BHWC)


def shift(images_BHWC: np.ndarray, alpha_B3: np.ndarray, beta_B3: np.ndarray) -> np.ndarray:
    """uint8 images whose stains were scaled and shifted; what leaves 0 ... 255 is cut off."""
    logs_V = np.log(np.arange(256) / 255 + ADDED).astype(np.float32)  # of each value of a pixel
    matrix_BRO = np.einsum("rs,bs,so->bro", HED_FROM_RGB, alpha_B3, RGB_FROM_HED).astype(np.float32)
    offset_BO = (beta_B3 @ RGB_FROM_HED).astype(np.float32)
    shifted = np.empty_like(images_BHWC)
    for image_HWR, matrix_RO, offset_O, out in zip(images_BHWC, matrix_BRO, offset_BO, shifted, strict=True):
        colours_HWO = np.exp(logs_V[image_HWR] @ matrix_RO - offset_O) - ADDED
        out[:] = np.rint(np.clip(colours_HWO, 0, 1) * 255)
    return shifted


def flips(features: FeatureSet, result: ProtocolResult) -> dict[str, float]:
    """{"<split>/stain_flips_<sigma>": the share of samples whose predicted class is another under the shift}, by the fitted heads."""
    final, samples = features.final()
    shares = {}
    for name, shifted in features.shifted.items():
        if name in result.scores:
            rows = np.searchsorted(samples.ids_N, shifted.ids_N)  # ids are sorted
            before_N, after_N = result.scores[final][rows].argmax(axis=1), result.scores[name].argmax(axis=1)
            shares[f"{final}/stain_flips_{name.rpartition('_')[2]}"] = float(np.mean(before_N != after_N))
    return shares
