#!/usr/bin/env bash
# Train on several processes of this machine, or of several machines (NNODES, NODE_RANK, MASTER_ADDR, PORT).
# Usage: bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
set -euo pipefail
if [ $# -lt 2 ]; then sed -n '2,3p' "$0" | cut -c3- >&2; exit 2; fi
config=$1 gpus=$2
shift 2
exec bash "$(dirname "$0")/torchrun.sh" "$gpus" "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
