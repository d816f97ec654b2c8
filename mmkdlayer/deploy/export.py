"""Writes the student as a folder of its own, and checks it against the training model."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmkdlayer.atomic import partial_folder, remove_leftovers
from mmkdlayer.checkpoints import hash_file, load_weights, read_student_weights
from mmkdlayer.errors import ConfigError
from mmkdlayer.version import __version__

from .calibration import calibration_loader, find_firing
from .comparing import LOOSE_TOLERANCE, TOLERANCE, Logits, compare
from .example_images import find_examples
from .exported_student import load_student
from .folding import fold_student, prune_student
from .formats import FILES, check_onnx, write_format
from .int8 import INT8, check_labels, write_int8
from .labelled_images import find_labelled
from .model_card import model_card
from .onnx_metadata import add_metadata
from .reparameterise import reparameterise
from .student_config import student_config, without_teacher
from .trained_config import check_trained_config

#: What an export may write.
CONTENT = ('student.pth', 'student.py', 'model_card.md', *FILES.values(), INT8)


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
        int8: Fold, and write ``student.onnx`` and ``student_int8.onnx``, calibrated on images of this
            folder; where it has a folder for each class, its accuracy is compared on them.
        max_drop: The largest drop of this accuracy, in points; infinite: any, also an unknown one.
        reparameterise: Merge the branches of RepVGG, MobileOne and the like.
        input_size: Height and width of the images, where neither test images nor the pipeline tell them.
        config_as_given: Export even if the checkpoint was trained with another config.
        licence: Identifier of the weights' licence, for the model card.
        metrics: Measured figures, for the model card.
    """

    ema: bool | None = None
    fold: bool = False
    prune_templates: str | None = None
    prune_images: int | None = None
    formats: tuple[str, ...] = ()
    int8: str | None = None
    max_drop: float = 1.0
    reparameterise: bool = True
    input_size: tuple[int, int] | None = None
    config_as_given: bool = False
    licence: str = 'unknown'
    metrics: Mapping[str, Any] = field(default_factory=dict)


def export_student(
    cfg: Config,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    options: ExportOptions | None = None,
) -> dict[str, Any]:
    """Write ``student.py``, ``student.pth`` and ``model_card.md``: a student that needs no teacher.

    The files appear only after each of them gave the logits of the training student, on noise and, where
    they are there, on test images. What an earlier export left in the folder is replaced.

    Args:
        cfg: The training config.
        checkpoint: A checkpoint of that training.
        out: The folder to write.
        options: What to write; None for the student as it was trained.

    Returns:
        ``config``, ``weights``, ``card`` (paths), ``files`` (all of them), ``difference`` (largest
        difference of logits), ``formats`` (a :class:`Written` for each further one), ``changes`` (what
        became of KD layers and branches) and ``checks`` (all of that in sentences).

    Raises:
        CheckpointError: The checkpoint can't be read or does not fit.
        ConfigError: Logits differ by more than 1e-5 of the largest one (of 1, where that is less);
            folded, pruned, re-parameterised, and in further formats, 1e-4. Or nothing tells the size of
            the images, or the checkpoint was trained with another config. Or the 8-bit file loses more
            accuracy than ``max_drop``: then all other files were written.
        DataError: There are no images to prune on or to calibrate on, or these do not tell the accuracy.
        DecisionFileError: A decision file of the training is damaged.
        OSError: The folder can't be written.
    """
    options = options or ExportOptions()
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    state, meta = read_student_weights(checkpoint, options.ema, cfg.get('weights_sha256'))
    check_trained_config(cfg, meta, checkpoint, refuse=not options.config_as_given)
    trained = build_trained_student(cfg, state, f'Checkpoint {checkpoint}')
    student_cfg = student_config(cfg)
    preprocessor = MODELS.build(
        student_cfg.model.get('data_preprocessor') or dict(type='mmpretrain.ClsDataPreprocessor')
    )
    images, source, one_size = find_examples(cfg, preprocessor, trained, options.input_size)
    num_classes = check_that_it_runs(trained, images)
    kept = {key: meta.get(key) for key in ('dataset_meta', 'epoch', 'iter')}
    about = dict(mmkdlayer_version=__version__, **json.loads(json.dumps(kept, default=str)))
    classes = (about['dataset_meta'] or {}).get('classes')
    if options.int8 is not None:
        check_onnx('--int8')
        labelled = find_labelled(options.int8, classes, num_classes)
        check_labels(labelled, options.int8, options.max_drop)
    student = copy.deepcopy(trained)
    changes: list[str] = []
    if options.reparameterise:
        changes += reparameterise(student_cfg.model, student)
    fold = options.fold or options.prune_templates is not None or options.int8 is not None
    if fold:
        changes += fold_student(student_cfg.model, student)
    if options.prune_templates is not None and len(getattr(student, 'kd_layers', ())):
        loader = calibration_loader(cfg, options.prune_templates, options.prune_images)
        firing, images = find_firing(student, preprocessor, loader)
        is_split = options.prune_templates in ('train', 'val', 'test')
        data = f'the {options.prune_templates} images' if is_split else 'the images of a folder'
        watched = f'{data} ({len(cast(Sized, loader.dataset))} images)'
        changes += prune_student(student_cfg.model, student, firing, watched)
        source = f'{len(images)} of the images that templates were pruned on'
    student_cfg.image_shape = list(images.shape[1:])
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    with partial_folder(folder, 'export') as trial:
        torch.save(dict(state_dict=student.state_dict(), meta=about), trial / 'student.pth')
        student_cfg.weights_sha256 = hash_file(trial / 'student.pth')
        (trial / 'student.py').write_text(student_cfg.pretty_text, encoding='utf-8')
        exported = load_student(trial)
        comparison = compare(Logits(exported), Logits(trained), [images])
        tolerance = LOOSE_TOLERANCE if fold or changes else TOLERANCE
        comparison.check(tolerance, 'The exported student')
        checks = [
            f'On {source}, the largest difference of its logits to those of the training model is '
            f'{comparison.difference:.2g} (at most {comparison.allowed(tolerance):.2g} is allowed)',
            *changes,
        ]
        formats = {}
        quantised = ['onnx'] if options.int8 is not None else []
        for name in dict.fromkeys([*options.formats, *quantised]):
            formats[name] = written = write_format(name, exported, images, trial)
            written.comparison.check(LOOSE_TOLERANCE, FILES[name])
            size = 'x'.join(map(str, images.shape[2:]))
            if not written.any_size and not one_size:
                raise ConfigError(
                    f'The test pipeline gives images of several sizes, but {FILES[name]} would take '
                    f'{size} alone. Resize or crop in the test pipeline, or leave this format out. '
                    'Nothing was written.'
                )
            sizes = 'any height and width' if written.any_size else f'{size} alone'
            checks.append(
                f'{FILES[name]} gives the logits of student.pth up to '
                f'{written.comparison.difference:.2g}, for batches of several sizes; it takes images '
                f'of {sizes}'
            )
        if 'onnx' in formats:
            pixels = student_cfg.model.get('data_preprocessor') or {}
            add_metadata(trial / FILES['onnx'], cfg, pixels, classes, images.shape[1:])
        refused = ''
        if options.int8 is not None:
            int8 = write_int8(trial, labelled, student_cfg, preprocessor)
            checks.append(int8.describe())
            if int8.drop > options.max_drop:
                (trial / INT8).unlink()
                refused = f'it was not kept, since its accuracy drops by {int8.drop:.2f} points'
                checks.append(f'{INT8}: {refused}, and --max-drop allows {options.max_drop:g}')
        files = [trial / name for name in CONTENT if (trial / name).is_file()]
        page = model_card(cfg, student_cfg, checkpoint, meta, files, checks, options)
        (trial / 'model_card.md').write_text(page, encoding='utf-8')
        for name in CONTENT:
            if (trial / name).is_file():
                os.replace(trial / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    if refused:
        raise ConfigError(
            f'{checks[-1]} ({checks[-2]}). All other files of the export are in {folder}. Allow '
            'more, or give images to calibrate on that are more like those of the training.'
        )
    return dict(
        config=folder / 'student.py',
        weights=folder / 'student.pth',
        card=folder / 'model_card.md',
        files=[folder / name for name in CONTENT if (folder / name).is_file()],
        difference=comparison.difference,
        formats=formats,
        changes=changes,
        checks=checks,
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


@torch.no_grad()
def check_that_it_runs(student: nn.Module, images: Tensor) -> int:
    """How many classes a student has; a ConfigError where it gives no logits of images (N, C, H, W)."""
    try:
        logits = student(images, mode='tensor')
    except RuntimeError as error:  # torch's, such as for other channels
        raise ConfigError(
            f'The student does not run on images of {tuple(images.shape[1:])} (channels, height, '
            f'width), which the test pipeline gives: {str(error).splitlines()[0]}. Correct the '
            'pipeline, the data preprocessor or the student. Nothing was written.'
        ) from error
    if not isinstance(logits, Tensor):
        raise ConfigError(
            f'The student gives a {type(logits).__name__} in the place of logits (N, classes). Only a '
            'student with one head that gives one tensor can be exported. Nothing was written.'
        )
    return logits.size(-1)
