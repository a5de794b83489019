"""`python train.py model=vits16 data=synthetic`: one run, here; with -m, a grid of them. `python train.py --help` lists the groups."""

import sys

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    from pathssl.slides import cucim_reader

    cucim_reader.available()  # before torch: on machines without an NVIDIA driver cuCIM would hang after it
    from pathssl.run import main as run

    sys.exit(run(config))


if __name__ == "__main__":
    from pathssl.complaints import explained

    with explained(sys.argv[1:]):
        main()
