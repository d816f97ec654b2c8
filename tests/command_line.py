"""The commands of tools/, run on a small folder of classes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Callable

import numpy as np
import torch
from forked import Forked, forked, program
from PIL import Image
from slurm_cluster import free_ports

#: Runs a command in this process: what tests/tools/conftest.py has as the fixture ``main``.
Main = Callable[[str, list[str]], tuple[int, str]]
ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs' / 'kdlayer' / 'folder_example.py'

# Networks, data and schedule of folder_example.py made as small as they get.
TINY = {
    'image_size': 16,
    'train_dataloader.batch_size': 8,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.batch_size': 8,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'test_dataloader.batch_size': 8,
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    'model.teacher.backbone.stem_channels': 4,
    'model.teacher.backbone.base_channels': 4,
    'model.teacher.backbone.depth': 18,
    'model.teacher.head.in_channels': 16,
    'model.architecture.backbone.stem_channels': 4,
    'model.architecture.backbone.base_channels': 4,
    'model.architecture.head.in_channels': 16,
    'model.distiller.kd_layers.inter.in_channels': 16,
    'model.distiller.kd_layers.inter.decision.num_subclasses': 2,
    'model.distiller.kd_layers.penult.in_channels': 16,
    'model.distiller.kd_layers.penult.decision.num_centroids': 8,
    'default_hooks.logger.interval': 1,
    'train_cfg.max_epochs': 1,
}


def write_images(folder: Path, classes: int = 3, train: int = 10, test: int = 4) -> Path:
    """Random images whose colour tells their class: ``train/<class>/*.png``, ``test/...``."""
    rng = np.random.default_rng(0)
    for split, count in (('train', train), ('test', test)):
        for label in range(classes):
            target = folder / split / f'class_{label}'
            target.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
                pixels[..., label % 3] += 100
                Image.fromarray(pixels).save(target / f'{index}.png')
    return folder


def arguments(
    config: Path, *args: object, data: Path | None = None, **options: object
) -> list[str]:
    """The command line, with the tiny settings and more ``--cfg-options`` (dots as ``__``)."""
    chosen = dict(TINY)
    chosen.update({key.replace('__', '.'): value for key, value in options.items()})
    line = [str(config), *map(str, args)]
    if data is not None:
        line += ['--data-root', str(data)]
    return [*line, '--cfg-options', *(f'{key}={value}' for key, value in chosen.items())]


RECORDING = """
_base_ = {config!r}
custom_imports = dict(imports=['mmkdlayer', 'training_probes'], allow_failed_imports=False)
custom_hooks = [
    dict(type='mmkdlayer.CheckWeightsHook'),
    dict(type='mmkdlayer.FitDecisionsHook', out_dir={decisions!r}),
    dict(type='LossRecorder'),
    {hook}
]
train_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
{more}
"""


def recording_config(folder: Path, more: str = '', hook: str = '', config: Path = CONFIG) -> Path:
    """A config without random augmentation that records its losses; see ``training_probes``.

    Args:
        folder: Where it is written. Its runs share their decisions there.
        more: Further lines of the config.
        hook: One more hook.
        config: What it is based on.
    """
    path = folder / 'recording.py'
    decisions = str(folder / 'decisions')
    text = RECORDING.format(config=str(config), decisions=decisions, more=more, hook=hook)
    path.write_text(text)
    return path


def environment() -> dict[str, str]:
    folders = [str(ROOT), str(ROOT / 'tests'), *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    return dict(
        os.environ,
        OMP_NUM_THREADS='1',
        PYTHONWARNINGS='ignore',
        PYTHONPATH=os.pathsep.join(filter(None, folders)),
        PYTHON=sys.executable,
    )


def start(
    tool: str, line: list[str], env: Mapping[str, str] | None = None, fork: bool = True
) -> subprocess.Popen | Forked:
    """Start a command in a process of its own; its output is one stream of lines.

    Python's are forks of this process, but where there is a GPU, which a fork can't use. A fork also
    has the locks that this process holds.
    """
    file = ROOT / 'tools' / tool
    if fork and tool.endswith('.py') and not torch.cuda.is_available():
        return Forked(program(file, line, env or environment()))
    command = ['bash'] if tool.endswith('.sh') else [sys.executable, '-u']
    return subprocess.Popen(
        [*command, str(file), *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env or environment(),
    )


def start_ranks(line: list[str], ranks: int = 2) -> list[subprocess.Popen | Forked]:
    """Start a training on several processes of this machine, as torchrun does."""
    [port] = free_ports(1)
    common = dict(environment(), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    at = line.index('--cfg-options')
    line = [*line[:at], '--launcher', 'pytorch', *line[at:]]
    return [
        start('train.py', line, dict(common, RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=str(ranks)))
        for rank in map(str, range(ranks))
    ]


def run_ranks(line: list[str]) -> tuple[set[int], str]:
    """Exit codes and output of a training on two processes; one that hangs is killed in the end."""
    processes = start_ranks(line)
    try:
        with ThreadPoolExecutor() as readers:  # at the same time: a full pipe stops a rank
            ended = readers.map(lambda process: process.communicate(timeout=300)[0], processes)
            output = ''.join(ended)
    finally:
        for process in processes:
            process.kill()
    return {process.returncode for process in processes}, output


def run(tool: str, line: list[str]) -> str:
    """Run a command in a process of its own, a fork of this one; it must succeed.

    Returns:
        What it printed, standard errors after standard output.
    """
    if tool.endswith('.sh'):
        process = start(tool, line)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-4000:]
        return output

    ((code, output, errors),) = forked(program(ROOT / 'tools' / tool, line, environment()))
    assert code == 0, (output + errors)[-4000:]
    return output + errors


def load_tool(name: str) -> ModuleType:
    """A command of tools/ as a module, to call its functions."""
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refused(main: Main, work: Path, line: list[str], *words: str, tool: str = 'train.py') -> str:
    """The command must fail with one paragraph that has these words, and leave nothing half-made."""
    code, errors = main(tool, line)
    assert code == 2, errors
    message = errors[errors.rindex('\nerror: ') :].strip()
    assert '\n' not in message, message
    for word in words:
        assert word in message, message
    if work.is_dir():
        assert not list(work.rglob('*.pth'))
        assert not [file for file in work.rglob('.*') if 'safetensors' in file.name]
    return message
