# Sourced after the srun of a run, which ended with $code: a run that was stopped and can go on goes back into the queue.
# 75: it saved its state. 140 and 143: a signal (USR2, TERM) came before it was listening, so there was nothing to save. 137: it was killed,
# by hand or for its memory; what kills it time and again is not to do so for ever.
job=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID # the number alone may mean the whole array
again=
case $code in
75) again=1 ;;
137) [ "${SLURM_RESTART_COUNT:-0}" -ge 3 ] || again=1 ;;
140 | 143) [ "${SLURM_RESTART_COUNT:-0}" -ge "${PATHSSL_MAX_TIMEOUTS:-20}" ] || again=1 ;;
esac
# A job that was cancelled is no longer RUNNING, and stays so.
if [ -n "$again" ] && [ "$(squeue -h -j "$job" -o %T)" = RUNNING ]; then
    scontrol requeue "$job"
fi
exit "$code"
