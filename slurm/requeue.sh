# Sourced after the srun of a run, which ended with $code: a run that was stopped and can go on goes back into the queue.
# 75: it saved its state. 140 and 143: a signal (USR2, TERM) came before it was listening, so there was nothing to save. 137: it was killed,
# by hand or for its memory. What does nothing but die is not to do so for ever: these are counted, until it stops as it should.
job=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID # the number alone may mean the whole array
in_vain=${PATHSSL_LOGS:-$SLURM_SUBMIT_DIR}/.in_vain-$job
again= most=0
case $code in
75) again=1 && rm -f "$in_vain" ;;
137) most=3 ;;
140 | 143) most=${PATHSSL_MAX_TIMEOUTS:-20} ;;
*) rm -f "$in_vain" ;;
esac
if [ "$most" -gt 0 ]; then
    echo "$code" >>"$in_vain"
    if [ "$(grep -cx "$code" "$in_vain")" -le "$most" ]; then
        again=1
    else
        echo "This job has ended with code $code for the $((most + 1))th time in a row: it is given up." >&2
        rm -f "$in_vain"
    fi
fi
# A job that was cancelled is no longer RUNNING, and stays so.
if [ -n "$again" ] && [ "$(squeue -h -j "$job" -o %T)" = RUNNING ]; then
    scontrol requeue "$job"
fi
exit "$code"
