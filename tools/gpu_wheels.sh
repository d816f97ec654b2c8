#!/usr/bin/env bash
# Carry the host libraries to a machine that has a GPU and torch, but no network.
#
#   bash tools/gpu_wheels.sh [--dir DIR] [--python 3.12 NAME ...]   on a machine with network
#   bash tools/gpu_wheels.sh --install [--dir DIR]                  on the machine without it
#
# The first makes DIR (default: .gpu_wheels in the checkout, which git ignores): pure-Python wheels of
# mmengine, mmpretrain, mmcv-lite, mmrazor, pytest and of all that they need, in the versions of the
# environment of tools/setup_env.sh; about 8 MB. What is compiled is left out and named, since a machine with
# torch has most of it (numpy, Pillow, PyYAML, matplotlib, opencv, safetensors). What it lacks can be named: it is
# fetched for Linux on x86-64 and the Python of --python. opencv-python-headless has 60 MB.
#
# The second installs with PYTHON (default: python3) what that one lacks, and nothing that it has; this checkout
# by a link to it.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
folder=$root/.gpu_wheels
version=
install=no
names=()
fail() { printf 'gpu_wheels: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --install) install=yes ;;
    --dir | --python)
      [ $# -gt 1 ] || fail "$1 expects a value"
      if [ "$1" = --dir ]; then folder=$2; else version=$2; fi
      shift ;;
    -*) fail "no option $1; there are --dir, --python and --install" ;;
    *) names+=("$1") ;;
  esac
  shift
done

if [ "$install" = yes ]; then
  python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')
  [ -e "$folder/requirements.txt" ] || fail "$folder has no requirements.txt: make it with bash tools/gpu_wheels.sh where there is a network"
  "$python" -c 'import torch' || fail "$python has no torch: name another with PYTHON=COMMAND"
  # By name: what is there already, in whatever version, is left alone.
  "$python" -m pip install -q --disable-pip-version-check --no-index --no-deps --find-links "$folder" -r "$folder/requirements.txt"
  cd /
  if ! "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("mmkdlayer") is None)'; then
    printf '%s\n' "$root" >"$("$python" -I -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/mmkdlayer-checkout.pth"
  fi
  "$python" -W ignore -c 'import cv2, matplotlib, mmengine, mmcv, pytest, safetensors, torchvision, yaml; import mmkdlayer, mmpretrain.models, mmrazor.models' ||
    fail "$python still lacks something (above). Where there is a network: bash tools/gpu_wheels.sh --python VERSION NAME"
  printf 'gpu_wheels: ready: %s benchmarks/gpu.py\n' "$python"
  exit
fi

[ -z "${names[*]:-}" ] || [ -n "$version" ] || fail '--python expects the Python of the other machine, such as 3.12, for compiled packages'
python=${PYTHON:-$(bash "$root/tools/setup_env.sh" distill tests)}
mkdir -p "$folder"
rm -f "$folder"/*.whl "$folder/requirements.txt"
# Each line: what pip is to fetch, and what --install is to ask for.
listed=$("$python" -I - "$root" <<'PY'
import importlib.metadata as metadata
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

root = Path(sys.argv[1], 'requirements')
lines = [line for name in ('openmmlab', 'lite', 'distill', 'runtime', 'tests')
         for line in Path(root, f'{name}.txt').read_text().splitlines()]
wanted = [Requirement(line) for line in lines if line and not line.startswith('#')]
#: Of the tests' requirements pytest alone; torch and what is below it is there already.
without = {
    'grad-cam', 'pytest-cov', 'pytest-xdist', 'scikit-learn', 'tensorboard', 'timm', 'torch', 'torchvision',
    'transformers'}
seen, compiled = set(), set()
while wanted:
    requirement = wanted.pop(0)
    name = canonicalize_name(requirement.name)
    if name in seen | without or requirement.marker and not requirement.marker.evaluate({'extra': ''}):
        continue
    seen.add(name)
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        if 'opencv' in name:
            compiled.add(name)
        else:  # mmcv-lite, where the environment has mmcv
            print(requirement, requirement, sep='\t')
        continue
    if 'Root-Is-Purelib: false' in (found.read_text('WHEEL') or ''):
        compiled.add(name)
        continue
    kept = requirement if requirement.specifier and name.startswith(('mm', 'setuptools')) else name
    print(f'{name}=={found.version}', kept, sep='\t')
    wanted += map(Requirement, found.requires or [])
print('gpu_wheels: left out, being compiled:', ', '.join(sorted(compiled)), file=sys.stderr)
PY
)
get=("$python" -m pip --disable-pip-version-check)
cut -f 1 <<<"$listed" | tr -d ' ' >"$folder/.fetch"
"${get[@]}" wheel -q --no-deps -w "$folder" -r "$folder/.fetch" >&2
rm "$folder/.fetch"
if [ -n "${names[*]:-}" ]; then
  platforms=()
  for platform in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do
    platforms+=(--platform "${platform}_x86_64")
  done
  "${get[@]}" download -q --no-deps --only-binary=:all: --python-version "$version" "${platforms[@]}" -d "$folder" "${names[@]}" >&2
fi
{
  cut -f 2 <<<"$listed"
  printf '%s\n' ${names[@]+"${names[@]}"}
} | sed '/^$/d' >"$folder/requirements.txt"
wheels=("$folder"/*.whl)
(cd "$folder" && ls -lS ./*.whl | awk '{print $5, $NF}')
printf 'gpu_wheels: %s wheels in %s, %s in all\n' "${#wheels[@]}" "$folder" "$(du -sh "$folder" | cut -f 1)"
