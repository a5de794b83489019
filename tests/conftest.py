"""For all tests: cuCIM before torch, and one thread, so that results do not depend on the machine's cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

from pathssl.slides import cucim_reader

cucim_reader.available()  # before anything imports torch
