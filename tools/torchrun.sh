#!/usr/bin/env bash
# Start a script once per GPU with torch.distributed.run. One machine needs no port; several share PORT.
# Usage: bash tools/torchrun.sh GPUS SCRIPT [ARGS]
set -euo pipefail
gpus=$1
shift
nodes=${NNODES:-1}
if [ "$nodes" -eq 1 ]; then
    where=(--standalone)
else
    where=(--nnodes "$nodes" --node_rank "${NODE_RANK:?rank of this machine}" \
        --master_addr "${MASTER_ADDR:?address of the first machine}" --master_port "${PORT:-29500}")
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${where[@]}" --nproc_per_node "$gpus" "$@"
