# Sourced by the sbatch files beside it: one run, a process to each task, and back into the queue when the job's time is nearly over.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

# USR1 comes before the time limit (--signal=B:USR1@...). TERM lets the run save its state and end; the next start goes on from there.
asked=
trap 'asked=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

# srun has not taken over --cpus-per-task by itself since Slurm 22.05. Where one process of a run died, the others could wait for ever.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --wait=300 .venv/bin/python train.py "$@" &
code=0
wait $! || code=$?
if [ -n "$asked" ]; then # the signal ended the waiting, not the run
    code=0
    wait $! || code=$?
fi
if [ "$code" = 75 ]; then # the run was asked to stop, and saved its state
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
