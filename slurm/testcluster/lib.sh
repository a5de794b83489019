# Shared by the scripts beside it. Settings, all overridable from the environment.
: "${SLURM_TEST_DIR:=/tmp/slurm-test}"      # everything lives here: config, state, logs, pids
: "${SLURM_TEST_NODES:=2}"                  # virtual nodes on this host
: "${SLURM_TEST_CPUS:=96}"                  # CPUs each node claims (even; need not exist)
: "${SLURM_TEST_MEM_MB:=1000000}"           # memory each node claims
: "${SLURM_TEST_GPUS:=8}"                   # fake GPUs per node
: "${SLURM_TEST_PORT:=26817}"               # ctld = PORT, dbd = PORT+2, slurmd k = PORT+3+k
: "${SLURM_TEST_SLURMD_TIMEOUT:=30}"         # seconds after which a node that does not answer is down
: "${SLURM_TEST_DBD:=1}"                    # 1: slurmdbd + MariaDB, so that sacct answers
D=$SLURM_TEST_DIR
case $D in /*[!/]*/*[!/]*) ;; *) echo "SLURM_TEST_DIR must be an absolute path at least two levels deep" >&2; exit 2 ;; esac

say() { printf '[slurm-test] %s\n' "$*" >&2; }

# The pid in pids/$1 if that process is alive and is really ours (its command line
# names our directory, or it runs with SLURM_CONF of our directory), else nothing.
our_pid() {
    local p
    p=$(cat "$D/pids/$1" 2>/dev/null) || return 1
    [ -n "$p" ] && [ -r "/proc/$p/cmdline" ] || return 1
    { tr '\0' '\n' <"/proc/$p/cmdline"; } 2>/dev/null | grep -qF -- "$D/" ||
        { tr '\0' '\n' <"/proc/$p/environ"; } 2>/dev/null | grep -qxF "SLURM_TEST_OWNER=$D" || return 1
    echo "$p"
}

# launch NAME CMD...: start detached in the foreground mode of the daemon; its pid is $!.
launch() {
    local name=$1; shift
    SLURM_TEST_OWNER=$D setsid "$@" </dev/null >>"$D/log/$name.console" 2>&1 &
    echo $! >"$D/pids/$name"
}

# wait_for SECONDS WHAT CMD...: poll CMD ten times a second.
wait_for() {
    local n=$(( $1 * 10 )) what=$2; shift 2
    while ! "$@" >/dev/null 2>&1; do
        n=$((n - 1)); [ $n -gt 0 ] || { say "gave up waiting for $what"; return 1; }
        sleep 0.1
    done
}

node_names() { local i; for i in $(seq "$SLURM_TEST_NODES"); do echo "node$i"; done; }

# node names in /etc/hosts (lines marked as this cluster's), so that MASTER_ADDR=node1 resolves
hosts_add() {
    local n
    [ -z "$(tail -c 1 /etc/hosts)" ] || echo >>/etc/hosts
    for n in $(node_names); do printf '127.0.0.1 %s # slurm-test %s\n' "$n" "$D" >>/etc/hosts; done
}
hosts_del() {
    local t
    grep -qxF -e "127.0.0.1 node1 # slurm-test $D" /etc/hosts || return 0
    t=$(grep -vF -e "# slurm-test $D" /etc/hosts) && printf '%s\n' "$t" >/etc/hosts
}

up() { [ "$(timeout 5 sinfo -h -N -p gpu -t idle,mixed,allocated -o %N 2>/dev/null | sort -u | wc -l)" = "$SLURM_TEST_NODES" ]; }
healthy() {
    local n
    for n in munged slurmctld $(node_names); do our_pid "$n" >/dev/null || return 1; done
    if [ "$SLURM_TEST_DBD" = 1 ]; then for n in mariadbd slurmdbd; do our_pid "$n" >/dev/null || return 1; done; fi
    timeout 5 scontrol ping 2>/dev/null | grep -q UP && up
}
