"""Section 4 of the page: what the layers cost, in parameters, FLOPs and time."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.analysis import parameter_count
from torch import Tensor, nn

from mmkdlayer.deploy.flops import count_flops
from mmkdlayer.deploy.folded_kd_layer import fold_layer
from mmkdlayer.errors import ConfigError
from mmkdlayer.models.connectors import KDLayerConnector
from mmkdlayer.models.distillers import release_records
from mmkdlayer.models.evaluating import evaluating

from .collecting import watching
from .networks import Networks

REPEATS = 5


@dataclass(frozen=True)
class Cost:
    """Parameters, and FLOPs of one image; None where they can't be counted."""

    part: str
    parameters: int
    flops: int | None

    def plus(self, part: str, others: Sequence[Cost], sign: int = 1) -> Cost:
        """The cost of this with others, or without them."""
        counts = [one.flops for one in (self, *others)]
        known = [count for count in counts if count is not None]
        flops = known[0] + sign * sum(known[1:]) if len(known) == len(counts) else None
        return Cost(part, self.parameters + sign * sum(o.parameters for o in others), flops)


def count_costs(networks: Networks, batch: Any) -> list[Cost]:
    """The costs of the student without and with its KD layers, of each of them, and folded."""
    student, layers = networks.student, networks.layers
    image = networks.preprocessor(batch, False)['inputs'][:1]
    with evaluating(student), torch.no_grad():
        with watching(networks) as watches:
            student(image, mode='tensor')
        whole = _count('student with KD layers' if layers else 'student', student, image)
        each = [_count(f'layer {n}', layer, watches[n].x) for n, layer in layers.items()]
        kept = {name: _fold(layer) for name, layer in layers.items()}
        folded = [_count(name, layer, watches[name].x) for name, layer in kept.items() if layer]
    found = [whole]
    if layers:
        alone = whole.plus('student without KD layers', each, -1)
        found = [alone, *each, whole]
        if any(isinstance(layer, KDLayerConnector) for layer in layers.values()):
            found.append(alone.plus('folded (export_student --fold)', folded))
    teacher = getattr(networks.algorithm, 'teacher', None)
    if teacher is not None:
        found.append(Cost('teacher (training only)', parameter_count(teacher)[''], None))
    return found


def _count(part: str, module: nn.Module, x: Tensor) -> Cost:
    try:
        flops = count_flops(module, x.shape[1:])['']
    except Exception:  # of a network that can't be traced
        flops = None
    return Cost(part, parameter_count(module)[''], flops)


def _fold(layer: Any) -> Any:
    """The layer as it is exported; None where nothing is left, or for one that can't be folded."""
    if not isinstance(layer, KDLayerConnector):
        return layer
    try:
        return fold_layer(layer)
    except ConfigError:
        return None


class _Stopwatch:
    """Seconds of modules' forward passes and of calls, by part."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.handles: list[Any] = []

    def now(self) -> float:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def watch(self, part: str, module: nn.Module) -> None:
        """Time a module's forward passes, from now on."""

        def start(*args: Any) -> None:
            self.seconds[part] -= self.now()

        def end(*args: Any) -> None:
            self.seconds[part] += self.now()

        self.handles.append(module.register_forward_pre_hook(start, prepend=True))
        self.handles.append(module.register_forward_hook(end))

    def time(self, part: str, call: Callable[[], Any]) -> Any:
        start = self.now()
        found = call()
        self.seconds[part] += self.now() - start
        return found


def time_parts(networks: Networks, batch: Any, repeats: int = REPEATS) -> list[tuple[str, float]]:
    """Median seconds of the parts of a training step on one batch, without the optimiser's update.

    They are of ``repeats`` steps, after one that is not timed. The weights and statistics of the
    student stay as they are.
    """
    algorithm, student = networks.algorithm, networks.student
    device = next(student.parameters()).device
    buffers = {name: value.clone() for name, value in student.named_buffers()}
    watch = _Stopwatch(device)
    watch.watch('student', student)
    if hasattr(algorithm, 'teacher'):
        watch.watch('teacher', algorithm.teacher)
    for layer in networks.layers.values():
        watch.watch('KD layers', layer)
    for loss in algorithm.distiller.distill_losses.values():
        if isinstance(loss, nn.Module):
            watch.watch('losses of the distillation', loss)
    steps = []
    with evaluating(algorithm):
        algorithm.train()
        try:
            for _ in range(repeats + 1):
                watch.seconds.clear()
                data = algorithm.data_preprocessor(batch, True)
                losses = algorithm(**data, mode='loss')
                total, _ = algorithm.parse_losses(losses)
                watch.time('backward pass', total.backward)
                steps.append(dict(watch.seconds))
                algorithm.zero_grad(set_to_none=True)
        finally:
            release_records(algorithm.distiller)  # of a step that failed
            algorithm.zero_grad(set_to_none=True)
            for handle in watch.handles:
                handle.remove()
            with torch.no_grad():
                for name, value in student.named_buffers():
                    value.copy_(buffers[name])
    found = {part: statistics.median(s[part] for s in steps[1:]) for part in steps[-1]}
    found['student'] = found.get('student', 0.0) - found.get('KD layers', 0.0)
    return sorted(found.items(), key=lambda pair: -pair[1])
