"""What the benchmarks of training steps measure: layers and whole steps of the published pairs.

Weights, images and tables of decisions are random: nothing is fitted, and nothing is downloaded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from mmkdlayer.models import (
    CentroidDecision,
    KDLayerConnector,
    SubclassDecision,
    TeacherDecision,
    TeacherDecisionLoss,
)
from mmkdlayer.models.kd_layer_options import standalone_kd_layers

ROOT = Path(__file__).resolve().parents[1]
LOGIT_KD = 'logit KD (stock mmrazor)'
WITH_LAYERS = 'student with KD layers'
STORED = 'stored decisions'
#: What a step trains; KD layers may be followed by an implementation, as in 'letKD-2, reference'.
KINDS = ('plain student', WITH_LAYERS, LOGIT_KD, 'letKD-1', 'letKD-2, reference', 'letKD-2')


class Shape(NamedTuple):
    """Images, channels of student and teacher, side of the map, templates, classes (0: centroids)."""

    images: int
    channels: int
    side: int
    templates: int
    classes: int = 0


class Pair(NamedTuple):
    """A config, images of a batch and their side, classes, the teacher's channels, centroids."""

    config: str
    batch: int
    side: int
    classes: int
    channels: int
    centroids: int = 4096


SHAPES = dict(
    a=Shape(64, 64, 8, 800, 100),
    b=Shape(64, 64, 8, 4096),
    c=Shape(32, 512, 7, 8000, 1000),
    d=Shape(32, 512, 7, 4096),
)
#: And those for batches of 256.
ALL_SHAPES = {
    **SHAPES,
    **{f'{name}256': shape._replace(images=256) for name, shape in SHAPES.items()},
}
PAIRS = dict(
    cifar=Pair('resnet56_resnet20_cifar100', 64, 32, 100, 64),
    imagenet=Pair('resnet34_resnet18_in1k', 16, 224, 1000, 512),
    vit=Pair('deit-base_deit-tiny_in1k', 16, 224, 1000, 768),
)


def make_decision(templates: int, channels: int, classes: int, device: str) -> TeacherDecision:
    """A decision with made-up tables; the table of sub-classes is dense, the slowest case."""
    if not classes:
        # Centroids as k-means leaves them behind a ReLU: not around the origin, some apart.
        return CentroidDecision.from_tables(torch.rand(templates, channels, device=device))
    components = min(60, channels)
    table = torch.rand(templates, templates, device=device)
    return SubclassDecision.from_tables(
        torch.randn(components, channels, device=device) / channels**0.5,
        torch.randn(components, device=device),
        torch.randn(templates, components, device=device),
        table.div_(table.sum(1, keepdim=True)),
        classes,
    )


class LayerStep:
    """Forward and backward pass of a KD layer and its loss."""

    def __init__(self, shape: Shape, device: str) -> None:
        images, channels, side, templates, classes = shape
        self.decision = make_decision(templates, channels, classes, device)
        self.layer = KDLayerConnector(channels, templates).to(device)
        self.x = torch.randn(images, channels, side, side, device=device, requires_grad=True)
        self.feature = torch.rand(images, channels, side, side, device=device)
        self.label = torch.arange(images, device=device) % max(1, classes)
        self.upstream = torch.randn_like(self.x) / self.x.numel()

    def __call__(self, implementation: str) -> None:
        """One pass by one of the implementations."""
        self.forget()
        self.layer.implementation = implementation
        loss = TeacherDecisionLoss(self.decision, implementation=implementation)
        recorded: list[Tensor] = []
        handle = self.layer.templates.register_forward_hook(lambda m, a, out: recorded.append(out))
        output = self.layer(self.x)
        handle.remove()
        value = loss(recorded.pop(), self.feature, self.label)
        torch.autograd.backward([value, output], [None, self.upstream])

    def forget(self) -> None:
        """Drop the gradients of the pass before."""
        self.x.grad = None
        self.layer.zero_grad(set_to_none=True)


class TrainingStep:
    """One training step of a pair; calling it takes the step.

    Args:
        pair: The pair, whose numbers may be smaller than the config's.
        kind: One of :data:`KINDS`.
        device: Where.
        decisions: By KD layer; they are shared by the steps that are compared.
        dtype: Type of autocast; None for none.
    """

    def __init__(
        self,
        pair: Pair,
        kind: str,
        device: str,
        decisions: dict[str, TeacherDecision],
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        from mmpretrain.structures import DataSample

        self.model, self.optimizer = build_model(pair, kind, decisions, device)
        self.inputs = torch.randn(pair.batch, 3, pair.side, pair.side, device=device)
        self.samples = [
            DataSample().set_gt_label(i % pair.classes).to(device) for i in range(pair.batch)
        ]
        self.context: Callable[[], Any] = nullcontext
        if dtype is not None:
            self.context = lambda: torch.autocast(torch.device(device).type, dtype=dtype)

    def __call__(self) -> None:
        """Forward, backward, update."""
        with self.context():
            losses = self.model(self.inputs, self.samples, mode='loss')
        loss, _ = self.model.parse_losses(losses)
        self.optimizer.update_params(loss)


def pair_decisions(pair: Pair, device: str) -> dict[str, TeacherDecision]:
    """Made-up decisions of both KD layers."""
    return dict(
        inter=make_decision(8 * pair.classes, pair.channels, pair.classes, device),
        penult=make_decision(pair.centroids, pair.channels, 0, device),
    )


def build_model(
    pair: Pair, kind: str, decisions: dict[str, TeacherDecision], device: str
) -> tuple[Any, Any]:
    """A model in training mode, and its optimiser, from the config of a pair."""
    import mmrazor.models  # noqa: F401
    from mmengine.config import Config
    from mmengine.optim import OptimWrapper
    from mmengine.registry import MODELS

    name, _, implementation = kind.partition(', ')
    file = ROOT / 'configs' / 'kdlayer' / f'{pair.config}.py'
    config = copy.deepcopy(Config.fromfile(str(file)).model)
    config.pop('teacher_ckpt', None)
    if name == 'letKD-1':
        del config.distiller.kd_layers['inter']
    for network in (config.architecture, config.teacher):
        network.head.num_classes = pair.classes
    for layer in config.distiller.kd_layers.values():
        key = 'num_classes' if 'num_classes' in layer.decision else 'num_centroids'
        layer.decision[key] = pair.classes if key == 'num_classes' else pair.centroids
        if implementation:
            layer['layer'] = dict(implementation=implementation)
    if kind == 'plain student':
        config = config['architecture']
    elif kind == WITH_LAYERS:
        layers = standalone_kd_layers(config.distiller.kd_layers)
        config = {**config.architecture, 'type': 'mmkdlayer.KDLayerClassifier', 'kd_layers': layers}
    elif kind == STORED:
        config.teacher = dict(type='mmkdlayer.NoTeacher')
        for layer in config.distiller.kd_layers.values():
            layer.decision['stored'] = 'in memory'
    elif name == LOGIT_KD:
        config['distiller'] = logit_distiller(
            'head.layers.head'
            if 'VisionTransformer' in config.architecture.head.type
            else 'head.fc'
        )
    torch.manual_seed(0)
    model = MODELS.build(config).to(device)
    model.train()
    for key, loss in getattr(getattr(model, 'distiller', None), 'distill_losses', {}).items():
        if key.removeprefix('loss_') in decisions:
            loss.decision.copy_from(decisions[key.removeprefix('loss_')])
            loss.implementation = implementation or loss.implementation
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return model, OptimWrapper(torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True))


def logit_distiller(source: str = 'head.fc') -> dict[str, Any]:
    """Config of mmrazor's distiller for the KL divergence of the logits, which a module outputs."""
    fc = dict(type='ModuleOutputs', source=source)
    return dict(
        type='ConfigurableDistiller',
        student_recorders=dict(fc=fc),
        teacher_recorders=dict(fc=fc),
        distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=1)),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    )
