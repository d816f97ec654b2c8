#!/usr/bin/env bash
# Start a script once per GPU with srun.
# Usage: bash tools/slurm_run.sh PARTITION JOB_NAME SCRIPT [ARGS]
set -euo pipefail
# shellcheck source=tools/cli/numbers.sh
source "$(dirname "${BASH_SOURCE[0]}")/cli/numbers.sh"
if [ $# -lt 3 ]; then sed -n '2,3p' "$0" | cut -c3- >&2; exit 2; fi
partition=$1 job=$2
shift 2
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
cpus=${CPUS_PER_TASK:-5}
# All processes of a job meet at one port; another job on the same machine draws another.
export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 20000))}
whole_number GPUS "$gpus" 1
whole_number GPUS_PER_NODE "$per_node" 0
whole_number CPUS_PER_TASK "$cpus" 1
whole_number MASTER_PORT "$MASTER_PORT" 1 65535
if [ "$per_node" -gt 0 ]; then
    [ "$per_node" -le "$gpus" ] || per_node=$gpus
    resources=(--gres="gpu:$per_node" --ntasks-per-node="$per_node")
else
    resources=()
fi
# shellcheck disable=SC2086  # SRUN_ARGS is a list of options
exec srun -p "$partition" --job-name="$job" --ntasks="$gpus" ${resources[@]+"${resources[@]}"} \
    --cpus-per-task="$cpus" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$@"
