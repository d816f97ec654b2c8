"""The cases of gpu.py: what is measured on a GPU, the most valuable first."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Optional
from unittest.mock import patch

import torch
from building import (
    LOGIT_KD,
    PAIRS,
    ROOT,
    SHAPES,
    LayerStep,
    Pair,
    Shape,
    TrainingStep,
    pair_decisions,
)
from measuring import interleaved, kernels, peak_allocated

from mmkdlayer.models import set_precision

#: Figures by name.
Figures = dict[str, Any]
LET_KD, TRITON, REFERENCE = 'letKD-2', 'letKD-2, triton', 'letKD-2, reference'
#: Numbers of a step: torch's switches for TF32 in matrix products and in convolutions, whether KD layers
#: and decisions may use TF32 too, and the type of autocast.
PRECISIONS: dict[str, tuple[bool, bool, bool, Optional[torch.dtype]]] = {
    'default': (False, True, False, None),
    'float32': (False, False, False, None),
    'tf32': (True, True, True, None),
    'bf16': (False, True, False, torch.bfloat16),
    'bf16, tf32': (True, True, True, torch.bfloat16),
}
#: What is worked on in pieces: where its module has the least size of one, and the greatest number.
TILES = dict(
    layer=('mmkdlayer.models.connectors.memory_efficient', 'DEVICE_TILE', 'MOST_DEVICE_TILES'),
    loss=('mmkdlayer.models.losses.teacher_decision_loss', 'DEVICE_CHUNK', 'MOST_DEVICE_CHUNKS'),
)
#: Seconds for the tests; what they found until then is kept.
TESTS_LIMIT = 200
#: Numbers of the dry run, where it matters only that each case runs.
TINY_PAIR = dict(batch=2, side=32, classes=4, centroids=16)
TINY_SHAPE = Shape(2, 8, 2, 8, 4)


class Settings(NamedTuple):
    """Where the cases run, and whether they are as small as they get."""

    device: str
    tiny: bool = False


class Case(NamedTuple):
    """A name, what gives its figures, and seconds after which it is given up."""

    name: str
    measure: Callable[[Settings], Figures]
    limit: float = 60


def all_cases(settings: Settings) -> list[Case]:
    """Every case, in the order in which they are worth having."""
    triton = [TRITON] if has_triton(settings.device) else []
    main = ['plain student', LOGIT_KD, LET_KD, *triton]
    every = [(pair, batch) for pair in ('imagenet', 'cifar') for batch in (256, 64)]
    groups = [  # precision, mode, kinds
        ('default', 'eager', main),
        ('bf16', 'eager', main),
        ('default', 'graph', main),
        ('tf32', 'eager', main),
        ('float32', 'eager', main),
        ('bf16, tf32', 'eager', main),
        ('default', 'eager', [REFERENCE]),
        ('bf16', 'graph', main),
        ('tf32', 'graph', main),
        ('float32', 'graph', main),
        *((precision, 'eager', [REFERENCE]) for precision in ('bf16', 'tf32', 'float32')),
        # Last, as one may take minutes.
        ('default', 'compile', main[1:]),
        ('bf16', 'compile', main[1:]),
        ('tf32', 'compile', [LET_KD]),
        ('float32', 'compile', [LET_KD]),
    ]
    steps = [
        (pair, kind, batch, precision, mode)
        for precision, mode, kinds in groups
        for pair, batch in every
        for kind in kinds
    ]
    cases = [step_case(*step) for step in steps]
    implementations = ['memory_efficient', 'reference', *(['triton'] if triton else [])]
    layers = [
        layer_case(shape, implementation, precision)
        for precision in ('default', 'tf32')
        for shape in SHAPES
        for implementation in implementations
    ]
    tiles = [
        tile_case(shape, part, number, precision)
        for precision in ('default', 'tf32')
        for shape in ('b', 'c')
        for part in TILES
        for number in (1, 2, 4, 8, 16)
    ]
    fits = [Case(f'fitting {pair}', partial(fitting, pair), 120) for pair in ('cifar', 'imagenet')]
    first, half = len(every) * len(main), len(layers) // 2
    tests = Case('tests', cuda_tests, TESTS_LIMIT + 20)
    ahead, compiled = cases[:first], [case for case in cases if case.name.endswith('compile')]
    others = [case for case in cases[first:] if case not in compiled]
    return [tests, *ahead, *fits, *layers[:half], *tiles, *others, *layers[half:], *compiled]


def has_triton(device: str) -> bool:
    """Whether the KD layers have Triton kernels, and can use them here."""
    ours = importlib.util.find_spec('mmkdlayer.models.connectors.triton_kernels')
    return device == 'cuda' and bool(ours and importlib.util.find_spec('triton'))


def step_case(pair: str, kind: str, batch: int, precision: str, mode: str) -> Case:
    """A training step."""

    def measure(settings: Settings) -> Figures:
        tiny = TINY_PAIR if settings.tiny else dict(batch=batch)
        return training_step(PAIRS[pair]._replace(**tiny), kind, precision, mode, settings)

    limit = 180 if mode == 'compile' else 60
    return Case(f'step {pair}; {kind}; batch {batch}; {precision}; {mode}', measure, limit)


def training_step(pair: Pair, kind: str, precision: str, mode: str, settings: Settings) -> Figures:
    """Milliseconds, images a second, peak memory, and kernels of one step."""
    matmul, convolutions, layers, dtype = PRECISIONS[precision]
    decisions = pair_decisions(pair, settings.device) if kind.startswith('letKD') else {}
    step = TrainingStep(pair, kind, settings.device, decisions, dtype)
    if layers:
        set_precision(step.model, 'tf32')
    if mode == 'compile':  # as mmengine's Runner does
        options: dict[str, Any] = dict(backend='eager') if settings.tiny else {}
        step.model.forward = torch.compile(step.model.forward, **options)
    with fast_products(matmul, convolutions):
        run = captured(step, settings.device) if mode == 'graph' else step
        figures = timed(run, settings)
    if mode == 'graph':  # its memory was taken when it was captured
        del figures['peak_mib']
    return dict(figures, images_per_s=pair.batch / figures['ms'] * 1000)


def layer_case(shape: str, implementation: str, precision: str) -> Case:
    """A KD layer and its loss alone, with images of a batch of 256."""

    def measure(settings: Settings) -> Figures:
        chosen = TINY_SHAPE if settings.tiny else SHAPES[shape]._replace(images=256)
        step = LayerStep(chosen, settings.device)
        matmul, convolutions, layers, _ = PRECISIONS[precision]
        if layers:
            set_precision(step.layer, 'tf32')
            set_precision(step.decision, 'tf32')
        with fast_products(matmul, convolutions):
            return timed(lambda: step(implementation), settings)

    return Case(f'layer {shape}; {implementation}; batch 256; {precision}', measure)


def tile_case(shape: str, part: str, number: int, precision: str) -> Case:
    """A KD layer and its loss with the work of one of them in so many pieces.

    The loss of centroids takes twice as many, as it has more tensors of their size.
    """
    module, smallest, most = TILES[part]
    pieces: dict[str, Any] = {smallest: 1, most: number}

    def measure(settings: Settings) -> Figures:
        with patch.multiple(module, **pieces):
            return layer_case(shape, 'memory_efficient', precision).measure(settings)

    return Case(f'tiles {shape}; {part} in {number}; batch 256; {precision}', measure)


def timed(run: Callable[[], Any], settings: Settings) -> Figures:
    """What calling it costs, after it was called some times."""
    repeats, warmup = (1, 1) if settings.tiny else (15, 4)
    seconds = interleaved(dict(run=run), repeats, settings.device, warmup)['run']
    figures = dict(ms=seconds * 1000, peak_mib=peak_allocated(run, settings.device) / 2**20)
    if settings.device == 'cuda':
        figures['kernels'], figures['busy_ms'] = kernels(run)
    return figures


@contextmanager
def fast_products(matmul: bool, convolutions: bool) -> Iterator[None]:
    """Torch's switches for TF32 inside; as they were afterwards."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolutions
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def captured(step: Callable[[], Any], device: str) -> Callable[[], Any]:
    """The step as a CUDA graph."""
    if device != 'cuda':
        raise RuntimeError('CUDA graphs need a GPU')
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class MadeUpFeatures:
    """Batches of a teacher's features (B, D, H, W) and labels (B,), the same in each pass."""

    def __init__(self, pair: Pair, images: int, device: str) -> None:
        self.pair, self.images, self.device = pair, images, device

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator(self.device).manual_seed(0)
        pair, side = self.pair, 8 if self.pair.channels == 64 else 7
        options: dict[str, Any] = dict(generator=generator, device=self.device)
        means = torch.randn(pair.classes, pair.channels, 1, 1, **options)
        for start in range(0, self.images, 256):
            labels = torch.arange(start, min(start + 256, self.images)) % pair.classes
            noise = torch.randn(len(labels), pair.channels, side, side, **options)
            yield (means[labels.to(self.device)] + noise).relu_(), labels


def fitting(name: str, settings: Settings) -> Figures:
    """Seconds of fitting both decisions, without a teacher, and positions a second."""
    from mmkdlayer.fitting import fit_centroids, fit_subclasses

    pair, images = PAIRS[name], 20_000
    if settings.tiny:
        pair, images = pair._replace(**TINY_PAIR), 40
    batches = MadeUpFeatures(pair, images, settings.device)
    components = min(60, pair.classes - 1)
    fits: dict[str, Callable[[], Any]] = dict(
        features=lambda: [None for _ in batches],  # what making them up takes
        subclasses=lambda: fit_subclasses(batches, pair.classes, num_components=components),
        centroids=lambda: fit_centroids(batches, pair.centroids),
    )
    figures: Figures = dict(images=images)
    for part, fit in fits.items():
        start = time.perf_counter()
        fit()
        if settings.device == 'cuda':
            torch.cuda.synchronize()
        figures[f'{part}_s'] = time.perf_counter() - start
    figures['images_per_s'] = images / (figures['subclasses_s'] + figures['centroids_s'])
    return figures


def cuda_tests(settings: Settings) -> Figures:
    """The tests of the mark ``cuda``, as far as they come; in the dry run they are only collected.

    Raises:
        RuntimeError: pytest could not run them.
    """
    line = [sys.executable, '-m', 'pytest', '-v', '-m', 'cuda', '-p', 'no:cacheprovider']
    line += ['--tb=short', '--show-capture=no', str(Path(ROOT, 'tests', 'cuda'))]
    if settings.tiny:
        line.append('--collect-only')
    try:
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=TESTS_LIMIT)
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        output, code = (error.output or b'').decode(), 0
    if code not in (0, 1):
        raise RuntimeError(f'pytest ended with {code}: {(output + done.stderr)[-2000:]}')
    found = re.findall(r'^(tests\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b', output, re.MULTILINE)
    counts = {word.lower(): sum(w == word for _, w in found) for word in ('PASSED', 'SKIPPED')}
    failures = [f'{name} {word}' for name, word in found if word in ('FAILED', 'ERROR')]
    unfinished = int('::' in output.splitlines()[-1]) if output else 1
    report = output[-8000:] if failures or unfinished else ''
    return dict(
        counts, failed=len(failures), unfinished=unfinished, failures=failures, report=report
    )
