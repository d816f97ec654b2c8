#!/usr/bin/env bash
# Test on a Slurm cluster.
# Usage: [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# GPUS is the number of processes; GPUS_PER_NODE=0 asks for no GPU (CPU clusters).
set -euo pipefail
if [ $# -lt 4 ]; then sed -n '2,4p' "$0" | cut -c3- >&2; exit 2; fi
partition=$1 job=$2 config=$3 checkpoint=$4
shift 4
exec bash "$(dirname "$0")/slurm_run.sh" "$partition" "$job" "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher slurm "$@"
