"""Whether what the runs of a `-m` line would read is there, asked once before the first of them begins."""

import sys
from collections.abc import Mapping, Sequence
from glob import has_magic
from pathlib import Path
from typing import Any

from pathssl.errors import UserError
from pathssl.identity import arm_name, run_folder
from pathssl.launch.status import under_way
from pathssl.slides.catalogue import content_hash, root_of
from pathssl.slides.remote.address import is_url


def check_paths(jobs: Sequence[Sequence[str]], configs: Sequence[Mapping[str, Any]], *, refuse: bool) -> None:
    """UserError, with a single run's words, where slides, manifest or a task of a run to do are not there; URLs are not asked.

    refuse: else it is a warning, where the runs are to be elsewhere: the nodes of a cluster may see what this machine does not.
    """
    folders = [run_folder(config, arm_name(job)) for job, config in zip(jobs, configs, strict=True)]
    alone = under_way(folders)
    read = {repr([c["data"], c["task"]]): c for folder, c in zip(folders, configs, strict=True) if folder not in alone}
    for config in read.values():
        try:
            _check_data(config)
            _check_tasks(config)
        except UserError as error:
            if refuse:
                raise
            print(f"As this machine sees it, and where the runs will be there may be more: {error}", file=sys.stderr)
            return


def _check_data(config: Mapping[str, Any]) -> None:
    path, manifest = config["data"]["path"], config["data"]["manifest"]
    try:
        if path is not None and not is_url(path):
            root_of(path)
        if not is_url(manifest):
            content_hash(manifest, None)
    except UserError:
        from pathssl.sources import helped  # torch comes with it, which takes seconds

        with helped(config):
            raise


def _check_tasks(config: Mapping[str, Any]) -> None:
    blocks = config["task"].values()
    if all(_may_be_there(block.get("path")) for block in blocks if "cohort" not in block):
        return
    from pathssl.sources import check_tasks

    check_tasks(config)


def _may_be_there(path: object) -> bool:
    return not isinstance(path, str) or is_url(path) or has_magic(path) or Path(path).expanduser().exists()
