#!/usr/bin/env bash
# Test on several processes of this machine, or of several machines (NNODES, NODE_RANK, MASTER_ADDR, PORT).
# Usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
set -euo pipefail
if [ $# -lt 3 ]; then sed -n '2,3p' "$0" | cut -c3- >&2; exit 2; fi
config=$1 checkpoint=$2 gpus=$3
shift 3
exec bash "$(dirname "$0")/torchrun.sh" "$gpus" "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
