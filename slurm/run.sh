# Sourced by the sbatch files beside it: one run, a process to each task, and back into the queue when the job's time is nearly over.
set -uo pipefail
cd "$SLURM_SUBMIT_DIR" || exit 1
trap : USR2 TERM # the run hears them; this script waits for it

# srun has not taken over --cpus-per-task by itself since Slurm 22.05. Processes of a run that stop do so one after the other, and none is
# to be killed before it has (--kill-on-bad-exit=0); where one died, the others could wait for ever (--wait).
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=300 .venv/bin/python train.py "$@"
code=$?
source slurm/requeue.sh
