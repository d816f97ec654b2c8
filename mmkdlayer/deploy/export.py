"""Writes the student as a folder of its own, and checks it against the training model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmkdlayer.checkpoints import STUDENT_PREFIX, hash_file, load_weights, read_student_weights
from mmkdlayer.errors import ConfigError
from mmkdlayer.version import __version__

from .exported_student import load_student
from .folding import LayerChange, calibration_loader, find_firing, fold_student, prune_student
from .formats import FILES, OPSET, write_format
from .model_card import model_card
from .student_config import find_input_size, student_config

TOLERANCE = 1e-5
#: Folding and other programs sum up in another order.
LOOSE_TOLERANCE = 1e-4
#: What an export may write.
CONTENT = ('student.pth', 'student.py', 'model_card.md', *FILES.values())


@dataclass(frozen=True)
class ExportOptions:
    """What an export shall be like.

    Attributes:
        ema: True for the averaged weights of an EMAHook, False for those of the last step, None for
            what the checkpoint has as its weights.
        fold: Make each KD layer two plain 1x1 convolutions.
        prune_templates: Fold, and leave out the templates that do not fire on these images: 'train',
            'val', 'test' or a folder.
        prune_images: How many of them at most; None for all.
        formats: More files: 'onnx', 'torchscript', 'torch_export'.
        licence: Identifier of the weights' licence, for the model card.
        metrics: Measured figures, for the model card.
    """

    ema: bool | None = None
    fold: bool = False
    prune_templates: str | None = None
    prune_images: int | None = None
    formats: tuple[str, ...] = ()
    licence: str = 'unknown'
    metrics: Mapping[str, Any] = field(default_factory=dict)


def training_student(cfg: Config, state: dict[str, Tensor], origin: str) -> nn.Module:
    """The student as the training model holds it, with its weights, in eval mode."""
    model = MODELS.build(cfg.model)
    student = model.student if STUDENT_PREFIX.rstrip('.') in cfg.model else model
    load_weights(student, state, origin)
    return student.eval()


def random_images(size: tuple[int, int]) -> Tensor:
    """Four images of noise, the same each time."""
    return torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def largest_difference(first: nn.Module, second: nn.Module, images: Tensor) -> float:
    """The largest difference of the two models' logits on images (N, 3, H, W)."""
    return float((first(images, mode='tensor') - second(images, mode='tensor')).abs().max())


def build_student(cfg: Config, state: dict[str, Tensor], origin: str) -> nn.Module:
    """The standalone student with its weights, in eval mode."""
    student = MODELS.build(cfg.model)
    load_weights(student, state, origin)
    return student.eval()


def make_small(
    student_cfg: Config, student: Any, cfg: Config, options: ExportOptions
) -> tuple[nn.Module, list[LayerChange], Tensor | None]:
    """Fold and prune the student, whose config is changed in place.

    Returns:
        The student, what became of its layers, and images to compare on (of the calibration).
    """
    changes = fold_student(student_cfg.model, student)
    student = build_student(student_cfg, student.state_dict(), 'The folded student')
    if options.prune_templates is None or not hasattr(student, 'kd_layers'):
        return student, changes, None
    loader = calibration_loader(cfg, options.prune_templates, options.prune_images)
    firing, images = find_firing(student, loader)
    name = options.prune_templates
    data = f'the {name} images' if name in ('train', 'val', 'test') else 'the images of a folder'
    watched = f'{data} ({len(cast(Sized, loader.dataset))} images)'
    changes += prune_student(student_cfg.model, student, firing, watched)
    return build_student(student_cfg, student.state_dict(), 'The pruned student'), changes, images


def check(difference: float, tolerance: float, what: str) -> None:
    """Raise a ConfigError where logits differ too much; NaN is too much."""
    if not difference <= tolerance:
        raise ConfigError(
            f'{what} gives other logits than the training student: expected a difference of at most '
            f'{tolerance}, but found {difference:.3g}. Nothing was written.'
        )


def export_student(
    cfg: Config,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    options: ExportOptions | None = None,
) -> dict[str, Any]:
    """Write ``student.py``, ``student.pth`` and ``model_card.md``: a student that needs no teacher.

    The files appear only after each of them gave the logits of the training student. What an earlier
    export left in the folder is replaced.

    Args:
        cfg: The training config.
        checkpoint: A checkpoint of that training.
        out: The folder to write.
        options: What to write; None for the student as it was trained.

    Returns:
        ``config``, ``weights``, ``card`` (paths), ``files`` (all of them), ``difference`` (largest
        difference of logits), ``format_differences`` (the same of each further format, to the exported
        student), ``changes`` (what became of the KD layers).

    Raises:
        ConfigError: The checkpoint does not fit, or logits differ by more than 1e-5; folded, pruned, and
            in further formats, 1e-4.
        DataError: There are no images to prune on.
        DecisionFileError: A decision file of the training is damaged.
        OSError: The folder can't be written.
    """
    options = options or ExportOptions()
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    state: dict[str, Tensor]
    state, meta = read_student_weights(checkpoint, options.ema)
    trained = training_student(untaught(cfg), state, f'Checkpoint {checkpoint}')
    student_cfg = student_config(cfg)
    changes: list[LayerChange] = []
    images, tolerance = random_images(find_input_size(student_cfg)), TOLERANCE
    compared = f'{len(images)} images of noise'
    if options.fold or options.prune_templates is not None:
        student = build_student(student_cfg, state, f'Checkpoint {checkpoint}')
        student, changes, sample = make_small(student_cfg, student, cfg, options)
        state, tolerance = student.state_dict(), LOOSE_TOLERANCE
        if sample is not None:
            images, compared = sample, f'{len(sample)} of the images that templates were pruned on'
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    kept_meta = dict(
        mmkdlayer_version=__version__,
        dataset_meta=plain_meta(meta.get('dataset_meta')),
        epoch=meta.get('epoch'),
        iter=meta.get('iter'),
    )
    with tempfile.TemporaryDirectory(dir=folder, prefix='.export-') as trial_name:
        trial = Path(trial_name)
        torch.save(dict(state_dict=state, meta=kept_meta), trial / 'student.pth')
        student_cfg.weights_sha256 = hash_file(trial / 'student.pth')
        (trial / 'student.py').write_text(student_cfg.pretty_text)
        exported = load_student(trial)
        difference = largest_difference(trained, exported, images)
        check(difference, tolerance, 'The exported student')
        sentences = [
            f'On {compared}, the largest difference of its logits to those of the training model is '
            f'{difference:.2g} (at most {tolerance:g} is allowed).',
            *(f'{change}.' for change in changes),
        ]
        differences = {}
        for name in options.formats:
            differences[name] = write_format(name, exported, images, trial)
            check(differences[name], LOOSE_TOLERANCE, FILES[name])
            opset = f' (opset {OPSET})' if name == 'onnx' else ''
            sentences.append(
                f'`{FILES[name]}`{opset} gives the logits of `student.pth` up to '
                f'{differences[name]:.2g}, for batches of several sizes.'
            )
        files = [trial / name for name in CONTENT if (trial / name).is_file()]
        page = model_card(
            cfg, student_cfg, checkpoint, meta, files, sentences, options.metrics, options.licence
        )
        (trial / 'model_card.md').write_text(page)
        for name in CONTENT:
            if (trial / name).is_file():
                os.replace(trial / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    return dict(
        config=folder / 'student.py',
        weights=folder / 'student.pth',
        card=folder / 'model_card.md',
        files=[folder / name for name in CONTENT if (folder / name).is_file()],
        difference=difference,
        format_differences=differences,
        changes=changes,
    )


def untaught(cfg: Config) -> Config:
    """The config without what only training needs: teachers' checkpoints, decision files."""
    cfg = Config(cfg.to_dict())
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = None
    for teacher in (cfg.model.get('teachers') or {}).values():
        teacher.pop('ckpt_path', None)
    (cfg.model.get('teacher') or {}).pop('checkpoints', None)
    for loss in cfg.model.get('distiller', {}).get('distill_losses', {}).values():
        if isinstance(loss.get('decision'), dict):
            loss.decision.pop('file', None)
    return cfg


def plain_meta(meta: Any) -> Any:
    """Meta data as plain Python values, which load with weights_only=True."""
    if isinstance(meta, dict):
        return {str(key): plain_meta(value) for key, value in meta.items()}
    if isinstance(meta, (list, tuple, set)):
        return [plain_meta(value) for value in meta]
    return meta if isinstance(meta, (str, int, float, bool, type(None))) else str(meta)
