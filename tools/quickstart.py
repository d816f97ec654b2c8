#!/usr/bin/env python
"""The whole main job on scikit-learn's digits: train a teacher, fit, distil, test, export, infer."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmpretrain import ImageClassificationInferencer, get_model
from PIL import Image
from sklearn.datasets import load_digits

import cli
import mmkdlayer

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs' / 'quickstart'
SECONDS_BETWEEN_LINES = 5
TEST_IMAGES = 1397  # few are left for training, so that the task is not too easy


def write_digits(folder: Path) -> Path:
    """Write the 1,797 digits as PNG files of 32x32 into ``train/<class>`` and ``test/<class>``."""
    marker = folder / 'complete'
    if marker.exists():
        return folder
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    for rank, index in enumerate(order):
        split = 'test' if rank < TEST_IMAGES else 'train'
        target = folder / split / str(digits.target[index])
        target.mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[index] * (255 / 16)).astype(np.uint8)
        image = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
        image.convert('RGB').save(target / f'{index:04d}.png')
    marker.touch()
    return folder


def run(title: str, log: Path, *command: str | Path) -> None:
    """Run one of this project's commands; its output goes to a file, and is shown if it fails."""
    shown = ' '.join(str(part).replace(f'{ROOT}{os.sep}', '') for part in command)
    print(f'\n== {title}\n   python {shown}\n   log: {log}', flush=True)
    start = time.perf_counter()
    # Small networks gain nothing from more threads, and lose much where cores are shared.
    environment = dict({'OMP_NUM_THREADS': '1'}, **os.environ)
    with open(log, 'w') as output:
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', *map(str, command)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
        )
        code, shown = None, ''
        try:
            while code is None:
                try:
                    code = process.wait(SECONDS_BETWEEN_LINES)
                except subprocess.TimeoutExpired:
                    line = progress(log.read_text(errors='replace'))
                    seconds = time.perf_counter() - start
                    if line != shown:
                        print(f'   {seconds:.0f} s: {line}', flush=True)
                    shown = line
        finally:
            process.terminate()  # an interruption ends both
    if code:
        print(log.read_text()[-5000:], file=sys.stderr)
        sys.exit(f'"{title}" failed with exit code {code}; the whole log is {log}')
    print(f'   {time.perf_counter() - start:.0f} s', flush=True)


def progress(log: str) -> str:
    """How far a command is, by its log so far."""
    epochs = re.findall(r'Epoch\(train\) +\[(\d+)\]', log)
    length = re.search(r'max_epochs=(\d+)', log)
    if epochs:
        return f'epoch {epochs[-1]}' + (f' of {length[1]}' if length else '')
    if 'Fitting the decisions' in log:
        return "fitting the teacher's decisions"
    return 'starting'


@torch.no_grad()
def milliseconds_per_image(model: BaseModel, batch: int = 100, runs: int = 20) -> float:
    """Median time of a forward pass in eval mode, per image."""
    images = torch.randn(batch, 3, 32, 32)
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        model(images, mode='tensor')
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:])) / batch * 1e3


def main() -> None:
    """Run the main job step by step and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', default=str(ROOT / 'work_dirs' / 'quickstart'))
    work = Path(parser.parse_args().work_dir).resolve()
    work.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    data = write_digits(work / 'digits')
    print(f'data: {data} (1,797 digits of scikit-learn, {TEST_IMAGES} of them for testing)')

    configs = {name: CONFIGS / f'digits_{name}.py' for name in ('teacher', 'student', 'letkd2')}
    trained = {name: work / name / 'epoch_60.pth' for name in configs}
    distil = ('--cfg-options', f'model.teacher_ckpt={trained["teacher"]}')
    for name, title, more in (
        ('teacher', 'train the teacher', ()),
        ('student', 'train the student alone', ()),
        ('letkd2', "fit the teacher's decisions, distil letKD-2", distil),
    ):
        options = ('--data-root', data, '--work-dir', work / name, *more)
        run(title, work / f'{name}.log', 'tools/train.py', configs[name], *options)
    page = work / 'report' / 'index.html'
    student = (configs['letkd2'], trained['letkd2'], '--data-root', data, '--out', page.parent)
    title = 'show what was learned'
    run(title, work / 'report.log', 'tools/report.py', *student, *distil)
    exported = work / 'exported'
    student = (configs['letkd2'], trained['letkd2'], '--data-root', data, '--out', exported)
    title = 'export the student without its teacher'
    run(title, work / 'export.log', 'tools/export_student.py', *student)

    # What was trained is tested as it is deployed: the distilled student is the exported one.
    configs['letkd2'], trained['letkd2'] = exported / 'student.py', exported / 'student.pth'
    rows = []
    for name, config in configs.items():
        metrics = work / f'{name}.json'
        tested = (config, trained[name], '--data-root', data, '--work-dir', work / 'test')
        log = work / f'{name}_test.log'
        run(f'test: {name}', log, 'tools/test.py', *tested, '--out', metrics)
        if name == 'letkd2':
            model = mmkdlayer.load_student(exported)
        else:
            model = get_model(Config.fromfile(config), str(trained[name]))
        accuracy = json.loads(metrics.read_text())['accuracy/top1']
        parameters = sum(parameter.numel() for parameter in model.parameters())
        rows.append((name, accuracy, parameters, milliseconds_per_image(model)))

    image = sorted((data / 'test' / '3').iterdir())[0]
    found = ImageClassificationInferencer(mmkdlayer.load_student(exported))(str(image))[0]
    print(f'\n== ImageClassificationInferencer: {image.name} (a 3) is a {found["pred_class"]}')

    titles = dict(teacher='teacher', student='student alone', letkd2='student with KD layers')
    print(f'\n{"":24}{"top-1 %":>9}{"parameters":>13}{"ms/image":>11}')
    for name, accuracy, parameters, milliseconds in rows:
        print(f'{titles[name]:24}{accuracy:9.2f}{parameters:13,}{milliseconds:11.4f}')
    print(
        f'\nOne run with seed 0, {1797 - TEST_IMAGES} training and {TEST_IMAGES} test images: it shows '
        'that everything works,\nnot what KD layers gain; the README has the results.\n'
        f'what was learned: {page} (open it in a browser)\n'
        f'exported student: {exported}\ndecisions:        {work / "letkd2" / "decisions"}\n'
        f'logs:             {work}\ntime after installation: {time.perf_counter() - start:.0f} s'
    )


if __name__ == '__main__':
    with cli.report_errors():
        main()
