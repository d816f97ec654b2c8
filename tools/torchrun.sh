#!/usr/bin/env bash
# Start a script once per GPU with torch.distributed.run. One machine needs no port; several share PORT.
# Usage: bash tools/torchrun.sh GPUS SCRIPT [ARGS]
set -euo pipefail
# shellcheck source=tools/cli/numbers.sh
source "$(dirname "${BASH_SOURCE[0]}")/cli/numbers.sh"
if [ $# -lt 2 ]; then sed -n '2,3p' "$0" | cut -c3- >&2; exit 2; fi
gpus=$1
shift
nodes=${NNODES:-1}
whole_number GPUS "$gpus" 1
whole_number NNODES "$nodes" 1
if [ "$nodes" -eq 1 ]; then
    where=(--standalone)
else
    rank=${NODE_RANK:?rank of this machine} port=${PORT:-29500}
    whole_number NODE_RANK "$rank" 0 $((nodes - 1))
    whole_number PORT "$port" 1 65535
    if [ "$rank" -eq 0 ] && (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
        echo "error: port $port is taken on this machine. Choose another PORT, the same on all." >&2
        exit 2
    fi
    where=(--nnodes "$nodes" --node_rank "$rank" \
        --master_addr "${MASTER_ADDR:?address of the first machine}" --master_port "$port")
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${where[@]}" --nproc_per_node "$gpus" "$@"
