#!/usr/bin/env bash
# Train on a Slurm cluster.
# Usage: [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
# GPUS is the number of processes; GPUS_PER_NODE=0 asks for no GPU (CPU clusters).
set -euo pipefail
if [ $# -lt 3 ]; then sed -n '2,4p' "$0" | cut -c3- >&2; exit 2; fi
partition=$1 job=$2 config=$3
shift 3
exec bash "$(dirname "$0")/slurm_run.sh" "$partition" "$job" "$(dirname "$0")/train.py" "$config" --launcher slurm "$@"
