"""A loader of a few small patches, and what it reads as hashes."""

import hashlib

import numpy as np

from pathssl.data.loader import Loader
from pathssl.data.patches import PatchReader
from pathssl.data.sampling import Region, Sampler

SINGLE = Region(patches=1, width=1.0, chunk_batches=1)
FOUR = Region(patches=4, width=2.0, chunk_batches=8)
BATCH = 8


def reader(index, region=SINGLE, seed=0, open_slides=2, batch_size=BATCH):
    sampler = Sampler(
        index,
        slides=np.arange(len(index)),
        mpp=[0.5, 1.0],
        weight=[1, 1],
        patch_px=48,
        min_tissue=0.4,
        batch_size=batch_size,
        region=region,
    )
    return PatchReader(sampler, seed=seed, open_slides=open_slides)


def loader(index, workers, region=SINGLE, **more):
    return Loader(reader(index, region), workers=workers, prefetch=2, **more)


def digest(batches):
    return [(batch.step, hashlib.sha256(batch.patches.pixels.tobytes()).hexdigest()) for batch in batches]
