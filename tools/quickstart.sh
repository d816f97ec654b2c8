#!/usr/bin/env bash
# From a fresh machine to a distilled student: sets up the environment, then runs the whole main job on
# scikit-learn's digits. Usage: bash tools/quickstart.sh [--work-dir DIR]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=$(bash "$root/tools/setup_env.sh" distill tests)
exec "$python" "$root/tools/quickstart.py" "$@"
