"""From stain concentrations to colour: Beer-Lambert, with stain that differs by site, by case and over the slide."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from pathssl.slides.synthetic.noise import smooth_field

# Optical density of red, green, blue per unit of haematoxylin and eosin.
_RUIFROK = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])  # Ruifrok & Johnston 2001, ImageJ "H&E"
_MACENKO = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])  # Macenko et al. 2009, usual reference

_DRIFT_UM = (150.0, 600.0)  # over which lengths the amounts wander on a slide


@dataclass(frozen=True)
class Stain:
    """What the laboratory and the scanner do to one slide."""

    vectors: np.ndarray  # (2, 3): optical density per unit of H, E
    amounts: tuple[float, float]  # of H, E; 1 = usual
    glass: np.ndarray  # (3,) grey levels where there is no tissue
    blur_um: float
    drift: float  # spread (log scale) of the amounts over the slide


def draw_stain(site_rng: np.random.Generator, case_rng: np.random.Generator) -> Stain:
    """One slide's stain: the site sets vectors, amounts, glass and focus; the case moves each a little."""
    mix = np.clip(site_rng.uniform(0.25, 1.0) + case_rng.uniform(-0.15, 0.15), 0, 1)
    vectors = (1 - mix) * _RUIFROK + mix * _MACENKO
    vectors = vectors + site_rng.normal(0, 0.04, (2, 3)) + case_rng.normal(0, 0.02, (2, 3))
    vectors = np.clip(vectors, 0.02, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    amounts = np.exp(site_rng.normal(0, 0.18, 2) + case_rng.normal(0, 0.2, 2))
    glass = np.clip(site_rng.uniform(232, 247) + site_rng.normal(0, 1.5, 3) + case_rng.normal(0, 2.0, 3), 224, 250)
    blur_um = float(np.clip(site_rng.uniform(0.1, 0.4) + case_rng.uniform(-0.1, 0.15), 0.05, None))
    return Stain(vectors, (float(amounts[0]), float(amounts[1])), glass, blur_um, drift=0.44)


def develop(
    haematoxylin: np.ndarray, eosin: np.ndarray, stain: Stain, mpp: float, rng: np.random.Generator
) -> np.ndarray:
    """(H, W, 3) uint8: I = glass * exp(-(h * v_H + e * v_E)) per colour channel, after the optics' blur.

    `haematoxylin`, `eosin`: (H, W) float32 concentrations, 0 on glass.
    """
    planes = []
    for concentration, amount in zip((haematoxylin, eosin), stain.amounts, strict=True):
        thickness = sum(smooth_field(rng, concentration.shape, period_um / mpp) for period_um in _DRIFT_UM)
        local = np.clip(amount * np.exp(np.float32(stain.drift / len(_DRIFT_UM) ** 0.5) * thickness), 0.4, 1.9)
        planes.append(gaussian_filter(concentration, stain.blur_um / mpp) * local)
    h, e = planes
    picture = np.empty((*h.shape, 3), np.uint8)
    sensor = rng.standard_normal(h.shape, np.float32)
    for channel in range(3):
        density = h * np.float32(stain.vectors[0, channel]) + e * np.float32(stain.vectors[1, channel])
        light = np.float32(stain.glass[channel]) * np.exp(-density) + sensor
        picture[..., channel] = np.clip(np.rint(light), 0, 255)
    return picture
