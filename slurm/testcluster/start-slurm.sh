#!/bin/bash
# Starts a real Slurm on this one host: N virtual nodes, fake GPUs, no systemd, no cgroups.
# Idempotent: a healthy cluster is left alone; leftovers are stopped; state starts empty.
# Afterwards: . $SLURM_TEST_DIR/env.sh   (sets SLURM_CONF; nothing is written to /etc/slurm)
set -euo pipefail
cd "$(dirname "$0")"; . ./lib.sh
export SLURM_CONF=$D/slurm.conf
mkdir -p "$D"; exec 9>"$D.lock"; flock 9            # one starter at a time
if healthy; then say "already up (. $D/env.sh)"; exit 0; fi
./stop-slurm.sh 9>&-
if [ -n "$(ls -A "$D")" ] && [ ! -e "$D/.slurm-test" ]; then say "$D is not empty and not ours"; exit 2; fi
rm -rf "$D"; mkdir -p "$D"/{state,spool,log,pids,munge,gpu}; for n in $(node_names); do mkdir "$D/spool/$n"; done; : >"$D/.slurm-test"
P=$SLURM_TEST_PORT; N=$SLURM_TEST_NODES; G=$SLURM_TEST_GPUS

# Fake GPUs: character devices (copies of /dev/null), so gres.conf File= is accepted and
# Slurm sets CUDA_VISIBLE_DEVICES per job as it does on a real node.
gpu_gres=; gres_types=
if [ "$G" -gt 0 ]; then
    for i in $(seq 0 $((G - 1))); do mknod -m 666 "$D/gpu/gpu$i" c 1 3 2>/dev/null || : >"$D/gpu/gpu$i"; done
    printf 'AutoDetect=off\nNodeName=node[1-%d] Name=gpu File=%s/gpu/gpu[0-%d]\n' "$N" "$D" $((G - 1)) >"$D/gres.conf"
    gpu_gres="Gres=gpu:$G"; gres_types="GresTypes=gpu"
fi
if [ "$SLURM_TEST_DBD" = 1 ]; then
    acct="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$((P + 2))
AccountingStoragePass=$D/munge/sock"
else
    acct="AccountingStorageType=accounting_storage/none"
fi
cat >"$D/slurm.conf" <<CONF
ClusterName=slurmtest
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$P
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$D/munge/sock
CredType=cred/munge
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/slurmctld.pid
SlurmdPidFile=$D/slurmd-%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd-%n.log
PlugStackConfig=/dev/null
MailProg=/bin/true
# no cgroups
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
PropagateResourceLimits=NONE
# pretend hardware: believe the NodeName line, not the machine
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
$gres_types
NodeName=node[1-$N] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[$((P + 4))-$((P + 3 + N))] CPUs=$SLURM_TEST_CPUS Sockets=2 CoresPerSocket=$((SLURM_TEST_CPUS / 2)) ThreadsPerCore=1 RealMemory=$SLURM_TEST_MEM_MB $gpu_gres State=UNKNOWN
# schedule at once
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
SlurmdTimeout=$SLURM_TEST_SLURMD_TIMEOUT
KillWait=5
MinJobAge=600
# requeue and preemption as on a real cluster
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
PartitionName=gpu Nodes=ALL Default=YES DefaultTime=10 MaxTime=2880 PriorityTier=5 PreemptMode=OFF DefMemPerCPU=1000 State=UP
PartitionName=low Nodes=ALL DefaultTime=10 MaxTime=2880 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 DefMemPerCPU=1000 State=UP
$acct
CONF
cat >"$D/env.sh" <<ENV
export SLURM_CONF=$D/slurm.conf
export SLURM_TEST_DIR=$D
ENV

hosts_add

# munge
(umask 077; head -c 1024 /dev/urandom >"$D/munge/key")
launch munged munged --foreground --force --key-file="$D/munge/key" --socket="$D/munge/sock" --origin=127.0.0.1 \
    --pid-file="$D/munge/pid" --log-file="$D/log/munged.log" --seed-file="$D/munge/seed" 9>&-
wait_for 10 munged sh -c "munge -n -S '$D/munge/sock' | unmunge -S '$D/munge/sock'"

# accounting: a private MariaDB on a unix socket only, then slurmdbd
if [ "$SLURM_TEST_DBD" = 1 ]; then
    mkdir "$D/db"
    { echo 'create database mysql;'; echo 'use mysql;'; cat /usr/share/mysql/mysql_system_tables.sql; } |
        mariadbd --no-defaults --bootstrap --user=root --datadir="$D/db" --innodb-log-file-size=8M >"$D/log/mariadb-bootstrap.log" 2>&1
    launch mariadbd mariadbd --no-defaults --user=root --datadir="$D/db" --skip-grant-tables --skip-networking \
        --socket="$D/db.sock" --pid-file="$D/mariadbd.pid" --log-error="$D/log/mariadb.log" --innodb-log-file-size=8M \
        --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 9>&-
    wait_for 20 mariadbd test -S "$D/db.sock"
    (umask 077; cat >"$D/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$D/munge/sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((P + 2))
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
LogFile=$D/log/slurmdbd.log
PidFile=$D/slurmdbd.pid
CONF
)
    MYSQL_UNIX_PORT=$D/db.sock launch slurmdbd slurmdbd -D 9>&-
    wait_for 20 slurmdbd timeout 5 sacctmgr -n show cluster
    timeout 10 sacctmgr -i -Q add cluster slurmtest >/dev/null 2>&1 || :
fi

launch slurmctld slurmctld -D -f "$D/slurm.conf" 9>&-
wait_for 20 slurmctld sh -c 'timeout 5 scontrol ping | grep -q UP'
for n in $(node_names); do launch "$n" slurmd -D -f "$D/slurm.conf" -N "$n" 9>&-; done
if ! wait_for 30 "all nodes idle" up; then sinfo -N -l >&2 || :; tail -n 20 "$D"/log/slurmctld.log >&2; exit 1; fi
if [ "$SLURM_TEST_DBD" = 1 ]; then   # sacct answers, and the controller has registered
    wait_for 20 "accounting registration" sh -c "timeout 5 sacctmgr -n -P show cluster format=controlhost | grep -q ."
fi
say "up: $(sinfo -h -o '%P %D nodes %T %G' | head -n 1) (. $D/env.sh)"
