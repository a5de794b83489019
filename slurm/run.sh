# Sourced by the sbatch files beside it: one run, a process to each task, and back into the queue when the job's time is nearly over.
set -uo pipefail
cd "$SLURM_SUBMIT_DIR" || exit 1
trap : USR2 TERM # the run hears them; this script waits for it

# These files have a job warned 300 s before its end (--signal); one that is warned as soon as it begins would only begin again and again.
limit=$(squeue -h -j "$SLURM_JOB_ID" -o %l)
if [[ $limit == ?:?? && -z ${PATHSSL_WARNED_S:-} ]]; then
    echo "This job's time limit is $limit, and it is warned 300 s before its end: give --time=15 or more." \
        "(With another --signal, export PATHSSL_WARNED_S with its seconds.)" >&2
    exit 2
fi

# srun has not taken over --cpus-per-task by itself since Slurm 22.05. Processes of a run that stop do so one after the other, and none is
# to be killed before it has (--kill-on-bad-exit=0); where one died, the others could wait for ever (--wait).
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=300 .venv/bin/python train.py "$@"
code=$?
source slurm/requeue.sh
