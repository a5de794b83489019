#!/bin/bash
# restart-node.sh node2: starts the slurmd of a node that was killed.
set -euo pipefail
cd "$(dirname "$0")"; . ./lib.sh
our_pid "$1" >/dev/null && exit 0
SLURM_CONF=$D/slurm.conf launch "$1" slurmd -D -f "$D/slurm.conf" -N "$1"
