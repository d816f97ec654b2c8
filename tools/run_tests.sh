#!/usr/bin/env bash
# Set up an environment, then run the tests: bash tools/run_tests.sh [PYTEST ARGS]
# Slow tests and those that start a Slurm are left out unless -m selects them: -m slow, -m slurm, -m ''.
# The last line is pytest's, and so is the exit code.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=$(bash "$root/tools/setup_env.sh" distill deploy tests)
cd "$root"
# One thread a process: small tests gain from no more. Up to four processes, but one more than cores at
# most: some tests wait.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
cores=$("$python" -c 'from joblib import cpu_count; print(cpu_count())')
workers=(-n "$((cores < 3 ? cores + 1 : 4))" --dist worksteal)
for argument in "$@"; do
  case $argument in
    -n* | --numprocesses* | --maxprocesses* | --pdb | --dist* | -p) workers=() ;;
  esac
done
exec "$python" -m pytest ${workers[@]+"${workers[@]}"} "$@"
