#!/usr/bin/env bash
# Make an environment in which all of this project runs, or find one that exists already.
#
#   bash tools/setup_env.sh [--stack openmmlab|onedl] [EXTRA ...]
#
# EXTRA: extras of setup.py; default: distill tests. --stack: OpenMMLab's host packages, or OneDL's
# successors of them (Python 3.10 or later); default: those that the environment has, else OpenMMLab's.
#
# Prints the path of the environment's python on standard output, and everything else on standard
# error, so that a script can say: python=$(bash tools/setup_env.sh)
#
#   MMKDLAYER_ENV=DIR   use (or make) the environment DIR; default: .venv in the checkout
#   PYTHON=COMMAND      the python (3.9 to 3.13) to make it with; default: the first that fits
#
# Without MMKDLAYER_ENV, an active virtual or conda environment that has all it takes is used as it
# is. Quick where nothing is missing, and can be killed and run again at any time.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
extras=()
stack=
smoke_modules='cv2, torch, torchvision, mmengine, mmcv, mmpretrain.models, safetensors'
unset PYTHONHOME

say() { printf 'setup_env: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --stack) [ $# -gt 1 ] || fail '--stack expects openmmlab or onedl'; stack=$2; shift ;;
    --stack=*) stack=${1#*=} ;;
    onedl | openmmlab) fail "$1 is a stack: --stack $1" ;;
    -*) fail "no option $1; there is --stack openmmlab|onedl" ;;
    *) extras+=("$1") ;;
  esac
  shift
done
case $stack in '' | openmmlab | onedl) ;; *) fail "--stack expects openmmlab or onedl, but found '$stack'" ;; esac
[ ${#extras[@]} -gt 0 ] || extras=(distill tests)

# The stack that was asked for, else the one that a python has.
stack_of() {
  if [ -n "$stack" ]; then
    printf '%s\n' "$stack"
  elif [ -x "$1" ] && "$1" -I -c 'import importlib.metadata as m; m.version("onedl-mmengine")' 2>/dev/null; then
    printf 'onedl\n'
  else
    printf 'openmmlab\n'
  fi
}

# What is missing for the requested extras, one item a line; nothing if all of it is installed.
missing_in() {
  "$1" -I - "$root" "$(stack_of "$1")" "${extras[@]}" <<'PY'
import importlib.metadata as metadata
import importlib.util
import pathlib
import sys

try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement

root, stack, extras = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]


def version_of(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


for name in ['runtime', stack, *extras]:
    for line in (root / 'requirements' / f'{name}.txt').read_text().splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        found = version_of(wanted.name)
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            print(f'{line} (found {found})')
if not any(map(version_of, ('mmcv', 'mmcv-lite', 'onedl-mmcv'))):
    print('mmcv, mmcv-lite or onedl-mmcv')
for name in ('mmengine', 'mmpretrain'):
    other = name if stack == 'onedl' else f'onedl-{name}'
    if version_of(other):
        print(f'{other} uninstalled: it overwrites the stack {stack}')
package = importlib.util.find_spec('mmkdlayer')
if package is None or package.origin != str(root / 'mmkdlayer' / '__init__.py'):
    print('mmkdlayer')
PY
}

# The python with which to make a new environment.
find_python() {
  local candidate version oldest=3.9 commands pyenv=${PYENV_ROOT:-$HOME/.pyenv}/versions minor
  [ "$(stack_of '')" = openmmlab ] || oldest=3.10
  commands=(python3 python3.13 python3.12 python3.11 python3.10 python3.9)
  for minor in 13 12 11 10 9; do  # pyenv's own commands work for the chosen version alone
    commands+=("$pyenv/3.$minor".*/bin/python)
  done
  [ -z "${PYTHON:-}" ] || commands=("$PYTHON")
  for candidate in "${commands[@]}"; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in
      3.9 | 3.10 | 3.11 | 3.12 | 3.13)
        [ "$version $oldest" = '3.9 3.10' ] || { printf '%s\n' "$candidate"; return; } ;;
    esac
    say "passing over $candidate: it is Python $version, and $oldest to 3.13 are supported"
  done
  [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is no Python $oldest to 3.13 that works"
  fail "no Python $oldest to 3.13 found. Install one, or name it: PYTHON=/path/to/python bash tools/setup_env.sh"
}

# An active environment, if it lacks nothing (except perhaps this package itself).
use_active_environment() {
  local prefix=${VIRTUAL_ENV:-${CONDA_PREFIX:-}} missing
  [ -n "$prefix" ] && [ -x "$prefix/bin/python" ] && [ "$prefix" != "$environment" ] || return 1
  missing=$(missing_in "$prefix/bin/python" 2>/dev/null) || return 1
  if [ "$missing" = mmkdlayer ] && [ -w "$root" ]; then
    say "installing this checkout (pip install --no-deps -e) into the active environment $prefix"
    pip_install "$prefix/bin/python" --no-deps --no-build-isolation -e "$root" || return 1
    missing=$(missing_in "$prefix/bin/python")
  fi
  [ -z "$missing" ] || return 1
  python=$prefix/bin/python
}

pip_install() {
  local interpreter=$1
  shift
  PIP_USER=0 "$interpreter" -m pip install -qq --disable-pip-version-check --no-input "$@" >&2
}

make_venv() {
  local base
  base=$(find_python)
  say "creating a virtual environment in $environment with $("$base" --version 2>&1)"
  "$base" -m venv "$environment" >&2 || fail "'$base -m venv' failed. On Debian and Ubuntu, install \
the package python3-venv; elsewhere, install a Python that has the module ensurepip."
}

# A pip that was killed leaves packages without their RECORD: forget those, so that pip installs
# them again.
drop_torn_packages() {
  local info
  for info in "$environment"/lib/python3*/site-packages/*.dist-info; do
    if [ -d "$info" ] && [ ! -e "$info/RECORD" ]; then
      rm -rf "$info"
    fi
  done
}

install_everything() {
  local constraints=() requirement_files=() extra hosts
  hosts=$(stack_of "$python")
  say 'installing torch and torchvision (1 of 3); on a new machine all takes some minutes and up to 6 GB'
  pip_install "$python" 'setuptools>=64,<81' wheel 'torch>=2.1' 'torchvision>=0.16'
  if "$python" -I -c 'import importlib.metadata, sys
sys.exit(tuple(map(int, importlib.metadata.version("torch").split(".")[:2])) >= (2, 3))'; then
    # torch up to 2.2 was built for numpy 1.
    constraints=('numpy<2')
  fi
  for extra in runtime "$hosts" "${extras[@]}"; do
    requirement_files+=(-r "$root/requirements/$extra.txt")
  done
  say "installing the packages of $hosts and the rest (2 of 3)"
  pip_install "$python" ${constraints[@]+"${constraints[@]}"} "${requirement_files[@]}"
  if ! has_package mmcv && ! has_package onedl-mmcv; then
    # What it asks for is here, and by itself it would bring OpenMMLab's mmengine.
    pip_install "$python" ${constraints[@]+"${constraints[@]}"} --no-deps -r "$root/requirements/lite.txt"
  fi
  say 'installing this checkout (3 of 3)'
  install_this_checkout
}

has_package() {
  "$python" -I -c 'import importlib.metadata, sys; importlib.metadata.version(sys.argv[1])' "$1" 2>/dev/null
}

install_this_checkout() {
  local link
  link=$("$python" -I -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/mmkdlayer-checkout.pth
  rm -f "$link"
  if [ -w "$root" ]; then
    # By path: the usual finder loses to a folder called mmkdlayer (the checkout) beside a script.
    pip_install "$python" --no-deps --no-build-isolation -e "$root"
  else
    # A read-only checkout can't take the files that an editable install writes.
    "$python" -m pip uninstall -qq --yes mmkdlayer >&2
    printf '%s\n' "$root" >"$link"
  fi
}

smoke_test() {
  "$python" -I -W ignore -c "import $smoke_modules" >/dev/null
}

# opencv-python needs libraries of a desktop, which a server may not have.
replace_opencv_without_libraries() {
  local error
  error=$("$python" -I -c 'import cv2' 2>&1) && return
  case $error in
    *'.so'*)
      say "opencv-python can't be used here (${error##*$'\n'}): replacing it with opencv-python-headless"
      "$python" -m pip uninstall --quiet --yes opencv-python opencv-python-headless >&2
      pip_install "$python" opencv-python-headless
      ;;
  esac
}

# One stack overwrites the files of the other.
refuse_other_stack() {
  local other=mmengine
  [ "$stack" = onedl ] || other=onedl-mmengine
  if [ -n "$stack" ] && [ -x "$python" ] && has_package "$other"; then
    fail "$environment has $other, which is not of the stack $stack, and both install the same modules. \
Use an environment of its own: MMKDLAYER_ENV=DIR bash tools/setup_env.sh --stack $stack"
  fi
}

# Ready: the marker names this state of the requirements, and nothing was removed since.
is_ready() {
  [ -x "$python" ] && [ "$(cat "$ready_marker" 2>/dev/null)" = "$state" ] && [ -z "$(missing_in "$python" 2>&1)" ]
}

environment=${MMKDLAYER_ENV:-$root/.venv}
if [ -z "${MMKDLAYER_ENV:-}" ] && [ ! -w "$root" ] && [ ! -d "$environment" ]; then
  environment=${XDG_CACHE_HOME:-$HOME/.cache}/mmkdlayer/venv
fi
case $environment in /*) ;; *) environment=$PWD/$environment ;; esac
for extra in "${extras[@]}"; do
  [ -e "$root/requirements/$extra.txt" ] || fail "no extra named '$extra': there is no requirements/$extra.txt"
done

python=
if [ -z "${MMKDLAYER_ENV:-}" ] && use_active_environment; then
  printf '%s\n' "$python"
  exit
fi

python=$environment/bin/python
ready_marker=$environment/.mmkdlayer-ready
# Marks environments that this script created and may therefore create again.
made_here_marker=$environment/.mmkdlayer-made-here
refuse_other_stack
state="ready $(cat "$root"/requirements/*.txt "$root/setup.py" | cksum)"
if is_ready; then
  printf '%s\n' "$python"
  exit
fi

mine=no
if [ ! -e "$environment" ] || [ -e "$made_here_marker" ]; then
  mine=yes
fi
mkdir -p "$environment" || fail "can't write to $environment. Name another place: MMKDLAYER_ENV=DIR"
if command -v flock >/dev/null; then
  exec 9>"$environment/.mmkdlayer.lock"
  if ! flock --nonblock 9; then
    say "waiting for another setup_env.sh that is working on $environment"
    flock 9
  fi
fi
if ! is_ready; then
  rm -f "$ready_marker"
  [ "$mine" = no ] || touch "$made_here_marker"
  [ -x "$python" ] || make_venv
  [ "$mine" = no ] || drop_torn_packages
  install_everything
  replace_opencv_without_libraries
  if ! smoke_test; then
    [ "$mine" = yes ] || fail "$environment doesn't work (see above). Repair it, or use another: MMKDLAYER_ENV=DIR"
    say "$environment is damaged: creating it again"
    find "$environment" -mindepth 1 -maxdepth 1 ! -name '.mmkdlayer*' -exec rm -rf {} +
    make_venv
    install_everything
    replace_opencv_without_libraries
    smoke_test || fail "the new environment $environment doesn't work either; the error is above"
  fi
  missing=$(missing_in "$python")
  [ -z "$missing" ] || fail "installed, but still missing in $environment: $missing"
  printf '%s\n' "$state" >"$ready_marker"
  say "ready; to use it yourself: source $environment/bin/activate"
fi
printf '%s\n' "$python"
