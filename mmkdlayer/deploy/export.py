"""Writes the student as a folder of its own, and checks it against the training model."""

from __future__ import annotations

import copy
import json
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

from mmkdlayer.checkpoints import hash_file, load_weights, read_student_weights
from mmkdlayer.errors import ConfigError
from mmkdlayer.version import __version__

from .calibration import calibration_loader, find_firing
from .exported_student import load_student
from .folding import LayerChange, fold_student, prune_student
from .formats import FILES, OPSET, write_format
from .model_card import model_card
from .student_config import find_input_size, student_config, without_teacher

TOLERANCE = 1e-5
#: Folding and other programs sum up in another order.
LOOSE_TOLERANCE = 1e-4
#: What an export may write.
CONTENT = ('student.pth', 'student.py', 'model_card.md', *FILES.values())


@dataclass(frozen=True)
class ExportOptions:
    """What an export writes.

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
        CheckpointError: The checkpoint can't be read or does not fit.
        ConfigError: Logits differ by more than 1e-5; folded, pruned, and in further formats, 1e-4.
        DataError: There are no images to prune on.
        DecisionFileError: A decision file of the training is damaged.
        OSError: The folder can't be written.
    """
    options = options or ExportOptions()
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    state, meta = read_student_weights(checkpoint, options.ema)
    trained = build_trained_student(cfg, state, f'Checkpoint {checkpoint}')
    student_cfg = student_config(cfg)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, *find_input_size(student_cfg), generator=generator)
    compared, tolerance = 'images of noise', TOLERANCE
    changes: list[LayerChange] = []
    if options.fold or options.prune_templates is not None:
        student = copy.deepcopy(trained)
        changes = fold_student(student_cfg.model, student)
        if options.prune_templates is not None and len(getattr(student, 'kd_layers', ())):
            pruned, images = prune_on_images(student_cfg, student, cfg, options)
            changes, compared = changes + pruned, 'of the images that templates were pruned on'
        state, tolerance = student.state_dict(), LOOSE_TOLERANCE
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix='.export-') as trial_name:
        trial = Path(trial_name)
        kept = {key: meta.get(key) for key in ('dataset_meta', 'epoch', 'iter')}
        plain = dict(mmkdlayer_version=__version__, **json.loads(json.dumps(kept, default=str)))
        torch.save(dict(state_dict=state, meta=plain), trial / 'student.pth')
        student_cfg.weights_sha256 = hash_file(trial / 'student.pth')
        (trial / 'student.py').write_text(student_cfg.pretty_text)
        exported = load_student(trial)
        with torch.no_grad():
            logits = trained(images, mode='tensor'), exported(images, mode='tensor')
        difference = float((logits[0] - logits[1]).abs().max())
        _check(difference, tolerance, 'The exported student')
        checks = [
            f'On {len(images)} {compared}, the largest difference of its logits to those of the '
            f'training model is {difference:.2g} (at most {tolerance:g} is allowed).',
            *(f'{change}.' for change in changes),
        ]
        format_differences = {}
        for name in options.formats:
            format_differences[name] = write_format(name, exported, images, trial)
            _check(format_differences[name], LOOSE_TOLERANCE, FILES[name])
            opset = f' (opset {OPSET})' if name == 'onnx' else ''
            checks.append(
                f'`{FILES[name]}`{opset} gives the logits of `student.pth` up to '
                f'{format_differences[name]:.2g}, for batches of several sizes.'
            )
        files = [trial / name for name in CONTENT if (trial / name).is_file()]
        page = model_card(cfg, student_cfg, checkpoint, meta, files, checks, options)
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
        format_differences=format_differences,
        changes=changes,
    )


def build_trained_student(cfg: Config, state: Mapping[str, Tensor], origin: str) -> nn.Module:
    """The student as the training model holds it, with its weights, in eval mode.

    Raises:
        CheckpointError: The weights do not fit; ``origin`` says where they come from.
    """
    model = MODELS.build(without_teacher(cfg).model)
    student = model.student if 'architecture' in cfg.model else model
    load_weights(student, state, origin)
    return student.eval()


def prune_on_images(
    student_cfg: Config, student: nn.Module, cfg: Config, options: ExportOptions
) -> tuple[list[LayerChange], Tensor]:
    """Prune a folded student and its config, in place.

    Returns:
        What became of its layers, and images to compare on (N, 3, H, W).
    """
    name = str(options.prune_templates)
    loader = calibration_loader(cfg, name, options.prune_images)
    preprocessor = MODELS.build(student_cfg.model.data_preprocessor)
    firing, sample = find_firing(student, preprocessor, loader)
    data = f'the {name} images' if name in ('train', 'val', 'test') else 'the images of a folder'
    watched = f'{data} ({len(cast(Sized, loader.dataset))} images)'
    return prune_student(student_cfg.model, student, firing, watched), sample


def _check(difference: float, tolerance: float, what: str) -> None:
    """Raise a ConfigError where logits differ too much; NaN is too much."""
    if not difference <= tolerance:
        raise ConfigError(
            f'{what} gives other logits than the training student: expected a difference of at most '
            f'{tolerance}, but found {difference:.3g}. Nothing was written.'
        )
