"""The student as one file that needs neither mmpretrain nor mmkdlayer: ONNX, TorchScript, torch.export.

Each file takes normalised images ``input`` (N, 3, H, W), N free, H and W those of the test pipeline, and
gives logits ``output`` (N, classes); only standard operators are in it.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError

OPSET = 17
#: File of each format.
FILES = dict(onnx='student.onnx', torchscript='student.pt', torch_export='student.pt2')
TRACED_BATCH = 2  # torch.export takes a size of 1 for a constant

Runner = Callable[[Tensor], Tensor]


def write_format(name: str, student: nn.Module, images: Tensor, folder: Path) -> float:
    """Write the student in one format and run the file.

    Args:
        name: 'onnx', 'torchscript' or 'torch_export'.
        student: In eval mode.
        images: To compare on, (N, 3, H, W).
        folder: Where to.

    Returns:
        The largest difference of the file's logits to the student's, over several batch sizes.

    Raises:
        ConfigError: The format needs something that is not installed, or the student can't be written
            so.
    """
    # No parameter needs a gradient; but with gradients enabled, the folded layer runs in one piece.
    model = Logits(copy.deepcopy(student)).eval().requires_grad_(False)
    while len(images) <= TRACED_BATCH:
        images = torch.cat([images, images.flip(-1)])
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            # About sizes that are fixed in the trace, and about formats that torch will give up one
            # day: what counts is that the file gives the same logits, for another batch size too.
            warnings.simplefilter('ignore')
            run = WRITERS[name](model, images[:TRACED_BATCH], folder / FILES[name])
            with torch.no_grad():
                differences = [
                    (run(part) - model(part)).abs().max()
                    for part in (images, images[:1], images[: TRACED_BATCH + 1])
                ]
                return float(torch.stack(differences).max())  # NaN, if any is
    except ConfigError:
        raise
    except Exception as error:
        first_line = ' '.join(str(error).strip().splitlines()[:1])
        raise ConfigError(
            f'The student cannot be written as {FILES[name]}: torch {torch.__version__} says '
            f'{type(error).__name__}: {first_line}. Leave this format out.'
        ) from error


class Logits(nn.Module):
    """A classifier as a plain function from images to logits."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        return self.student(images, mode='tensor')


def write_onnx(model: Logits, images: Tensor, path: Path) -> Runner:
    """Write ONNX (opset 17); returns what runs it, in onnxruntime.

    Raises:
        ConfigError: onnx or onnxruntime is not installed.
    """
    try:
        import onnx  # noqa: F401  (torch writes by it)
        import onnxruntime  # for the check
    except ImportError as error:
        raise ConfigError(
            f'--onnx needs the package {error.name}, which cannot be imported ({error}). Install it '
            'with "pip install onnx onnxruntime".'
        ) from error
    options: dict[str, Any] = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        # The exporter that torch 2.1 has too, and that needs no further package.
        options['dynamo'] = False
    torch.onnx.export(
        model,
        (images,),
        str(path),
        input_names=['input'],
        output_names=['output'],
        dynamic_axes=dict(input={0: 'batch'}, output={0: 'batch'}),
        opset_version=OPSET,
        **options,
    )
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda x: torch.from_numpy(session.run(['output'], {'input': x.numpy()})[0])


def write_torchscript(model: Logits, images: Tensor, path: Path) -> Runner:
    """Write a traced TorchScript module; returns it as it was read back."""
    torch.jit.save(torch.jit.trace(model, images), str(path))
    return torch.jit.load(str(path))


def write_torch_export(model: Logits, images: Tensor, path: Path) -> Runner:
    """Write a program of torch.export; returns it as it was read back.

    Raises:
        ConfigError: This torch has no torch.export that does without TorchDynamo.
    """
    if 'strict' not in inspect.signature(torch.export.export).parameters:
        raise ConfigError(
            f'--torch-export needs torch 2.5 or later, but this is torch {torch.__version__}.'
        )
    batch = torch.export.Dim('batch')
    # Not strict: the KD layers are hooks, whose Python code TorchDynamo does not need to understand.
    program = torch.export.export(
        model, (images,), dynamic_shapes=dict(images={0: batch}), strict=False
    )
    torch.export.save(program, str(path))
    return torch.export.load(str(path)).module()


WRITERS = dict(onnx=write_onnx, torchscript=write_torchscript, torch_export=write_torch_export)
