#!/bin/bash
# release-requeued.sh [SECONDS]: for so long (300), lets every requeued job start 2 s later instead of after Slurm's fixed 121 s.
# (Not at once: a restart in the second of the requeue fails with "Job credential revoked".)
end=$(( $(date +%s) + ${1:-300} ))
while [ "$(date +%s)" -lt "$end" ]; do
    timeout 10 squeue -h -r -t PD -o '%i %r %S' 2>/dev/null | while read -r job why start; do
        [ "$why" = BeginTime ] || continue
        at=$(date -d "$start" +%s 2>/dev/null) || continue
        [ $((at - $(date +%s))) -gt 5 ] && timeout 10 scontrol update JobId="$job" StartTime=now+2 && echo "released $job"
    done
    sleep 0.5
done
