# `source slurm/environment.sh`: a shell on the login node or in a job, ready for `python train.py`. Add what your cluster needs (module load ...).
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ ! -x "$root/.venv/bin/python" ]; then
    echo "There is no $root/.venv: build it on the login node with 'make env' (it needs the network; jobs do not)." >&2
    return 1
fi
source "$root/.venv/bin/activate"
