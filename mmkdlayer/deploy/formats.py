"""The student as one file that needs neither mmpretrain nor mmkdlayer: ONNX, TorchScript, torch.export.

Each file takes normalised images ``input`` (N, C, H, W) and gives logits ``output`` (N, classes); only
standard operators are in it. N is free; H and W are where the network allows it, and else those of the
test pipeline.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError

from .comparing import LOOSE_TOLERANCE, Comparison, Logits, Runner, compare

OPSET = 17
#: File of each format.
FILES = dict(onnx='student.onnx', torchscript='student.pt', torch_export='student.pt2')
TRACED_BATCH = 2  # torch.export takes a size of 1 for a constant
#: How much larger than the student's images those are that show whether H and W are free.
LARGER = (32, 64)


class Written(NamedTuple):
    """A file: its logits beside the student's, and whether it takes images of any size."""

    comparison: Comparison
    any_size: bool


def write_format(name: str, student: nn.Module, images: Tensor, folder: Path) -> Written:
    """Write the student, in eval mode, in one format and run the file on images (N, C, H, W).

    The formats are 'onnx', 'torchscript' and 'torch_export'.

    Returns:
        How its logits compare with the student's, over several batch sizes; whether H and W are free.

    Raises:
        ConfigError: The format needs something that is not installed, or the student can't be written
            so.
    """
    # No parameter needs a gradient; but with gradients enabled, the folded layer runs in one piece.
    model = Logits(copy.deepcopy(student)).eval().requires_grad_(False)
    while len(images) <= TRACED_BATCH:
        images = torch.cat([images, images.flip(-1)])
    traced, same = images[:TRACED_BATCH], [images, images[:1], images[: TRACED_BATCH + 1]]
    height, width = (side + more for side, more in zip(images.shape[-2:], LARGER))
    larger = nn.functional.interpolate(images[:1], (height, width), mode='bilinear')
    with warnings.catch_warnings(), torch.enable_grad():
        # About sizes that are fixed in the trace, and about formats that torch will give up one
        # day: what counts is that the file gives the same logits, for other sizes too.
        warnings.simplefilter('ignore')
        try:
            run = WRITERS[name](model, traced, folder / FILES[name], True)
            comparison = compare(run, model, [*same, larger])
            if comparison.fits(LOOSE_TOLERANCE):
                return Written(comparison, True)
        except Exception:  # the network, the exporter or the file takes one size alone
            pass
        try:
            run = WRITERS[name](model, traced, folder / FILES[name], False)
            return Written(compare(run, model, same), False)
        except ConfigError:
            raise
        except Exception as error:
            first_line = ' '.join(str(error).strip().splitlines()[:1])
            raise ConfigError(
                f'The student cannot be written as {FILES[name]}: torch {torch.__version__} says '
                f'{type(error).__name__}: {first_line}. Leave this format out.'
            ) from error


def write_onnx(model: Logits, images: Tensor, path: Path, any_size: bool) -> Runner:
    """Write ONNX (opset 17); returns what runs it, in onnxruntime.

    Raises:
        ConfigError: onnx or onnxruntime is not installed.
    """
    check_onnx('--onnx')
    options: dict[str, Any] = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        # The exporter that torch 2.1 has too, and that needs no further package.
        options['dynamo'] = False
    free = {0: 'batch', 2: 'height', 3: 'width'} if any_size else {0: 'batch'}
    torch.onnx.export(
        model,
        (images,),
        str(path),
        input_names=['input'],
        output_names=['output'],
        dynamic_axes=dict(input=free, output={0: 'batch'}),
        opset_version=OPSET,
        **options,
    )
    return open_onnx(path)


def check_onnx(option: str) -> None:
    """Raise a ConfigError where what an option of the export needs can't be imported."""
    try:
        import onnx  # noqa: F401  (for the metadata)
        import onnxruntime  # noqa: F401  (for the check)
    except ImportError as error:
        raise ConfigError(
            f'{option} needs the package {error.name}, which cannot be imported ({error}). Install it '
            'with "pip install onnx onnxruntime".'
        ) from error


def open_onnx(path: Path) -> Runner:
    """What runs an ONNX file on a CPU."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4  # a trial at another size may fail
    session = onnxruntime.InferenceSession(str(path), quiet, providers=['CPUExecutionProvider'])
    return lambda x: torch.from_numpy(session.run(['output'], {'input': x.numpy()})[0])


def write_torchscript(model: Logits, images: Tensor, path: Path, any_size: bool) -> Runner:
    """Write a traced TorchScript module; returns it as it was read back."""
    torch.jit.save(torch.jit.trace(model, images), str(path))
    return torch.jit.load(str(path))


def write_torch_export(model: Logits, images: Tensor, path: Path, any_size: bool) -> Runner:
    """Write a program of torch.export; returns it as it was read back.

    Raises:
        ConfigError: This torch has no torch.export that does without TorchDynamo.
    """
    if 'strict' not in inspect.signature(torch.export.export).parameters:
        raise ConfigError(
            f'--torch-export needs torch 2.5 or later, but this is torch {torch.__version__}.'
        )
    free: dict[int, Any] = {0: torch.export.Dim('batch')}
    if any_size:
        # AUTO finds the smallest size by itself; before torch 2.6 the network must have none.
        automatic = getattr(torch.export.Dim, 'AUTO', None)
        free[2] = automatic or torch.export.Dim('height')
        free[3] = automatic or torch.export.Dim('width')
    # Not strict: the KD layers are hooks, whose Python code TorchDynamo does not need to understand.
    program = torch.export.export(model, (images,), dynamic_shapes=dict(images=free), strict=False)
    torch.export.save(program, str(path))
    return torch.export.load(str(path)).module()


WRITERS = dict(onnx=write_onnx, torchscript=write_torchscript, torch_export=write_torch_export)
