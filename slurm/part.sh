# Sourced by the sbatch files of arrays whose tasks share some work: $part is this task's share, and the job goes back into the queue when it
# is warned (--signal=B:USR1) or preempted (TERM), to go on where it was. PARTS=8 with --array=3,7 does the third and the seventh of eight again.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
first=${PARTS:+1}
first=${first:-$SLURM_ARRAY_TASK_MIN}
parts=${PARTS:-$SLURM_ARRAY_TASK_COUNT}
part=$((SLURM_ARRAY_TASK_ID - first + 1))
if [ "$part" -gt "$parts" ] || [ "$part" -lt 1 ]; then
    echo "Task $SLURM_ARRAY_TASK_ID has no share of $parts: give --array=1-$parts, or export PARTS with the number of shares that there were." >&2
    exit 2
fi
part=$part/$parts

# Runs a command in this job's allocation.
share() {
    srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$@" &
    local work=$! code asked=
    trap 'asked=1; kill -TERM "$work" 2>/dev/null' USR1 TERM
    while :; do
        wait "$work" && code=0 || code=$?
        kill -0 "$work" 2>/dev/null || break
    done
    local job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    if [ -n "$asked" ] && [ "$code" != 0 ] && [ "$(squeue -h -j "$job" -o %T)" = RUNNING ]; then
        scontrol requeue "$job"
    fi
    exit "$code"
}
