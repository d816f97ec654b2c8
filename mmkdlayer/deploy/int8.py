"""The ONNX file with 8-bit integers, by onnxruntime's static quantisation, and its accuracy beside."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError, DataError

from .formats import FILES, open_onnx
from .labelled_images import LabelledImages, read_batches

FLOAT, INT8 = FILES['onnx'], 'student_int8.onnx'
#: Images that the ranges of activations are taken from, at most.
CALIBRATION = 512
#: What computes in integers. What normalises (products with norms, softmax) stays in float.
OPERATORS = [
    *('Conv', 'Gemm', 'MatMul', 'Add', 'Relu', 'Clip', 'Concat'),
    *('MaxPool', 'AveragePool', 'GlobalAveragePool'),
]


@dataclass(frozen=True)
class Int8:
    """What the quantised file is worth."""

    images: int  #: how many images were read
    calibration: int  #: how many of them the ranges are from
    agreement: float  #: share of the images to which both files give the same class, in percent
    before: Optional[float]  #: top-1 accuracy of the float file, in percent; None without classes
    after: Optional[float]  #: that of the quantised one
    sizes: tuple[int, int]  #: of both files, in bytes
    note: str  #: how the classes were told, or why not; images that could not be read

    @property
    def drop(self) -> float:
        """Points of accuracy that it loses; NaN where that can't be told."""
        if self.before is None or self.after is None:
            return math.nan
        return self.before - self.after

    def describe(self) -> str:
        """In a sentence without its full stop."""
        accuracy = 'no accuracy was measured'
        if self.before is not None:
            accuracy = f'top-1 accuracy {self.after:.2f} (of {FLOAT}: {self.before:.2f})'
        before, after = (size / 1e6 for size in self.sizes)
        return (
            f'{INT8}, calibrated on {self.calibration} of {self.images} images of a folder: '
            f'{accuracy} on all of them ({self.note}); {self.agreement:.1f}% get the same class from '
            f'both; {after:.2f} MB (float: {before:.2f} MB)'
        )


def check_labels(images: LabelledImages, data: str, max_drop: float) -> None:
    """Raise a DataError where a drop is to be limited, and the images do not tell the accuracy."""
    if images.labels is None and max_drop < math.inf:
        raise DataError(
            f'--int8 {data}: expected a folder for each class, to compare the accuracy, but '
            f'{images.note}. Give such a folder, or "--max-drop none" to write {INT8} without knowing '
            'its accuracy.'
        )


def write_int8(folder: Path, images: LabelledImages, cfg: Any, preprocessor: nn.Module) -> Int8:
    """Quantise ``student.onnx`` of a folder to ``student_int8.onnx``, and run both on all images.

    Up to 512 of them, drawn at random but the same each time, are those that it is calibrated on.

    Raises:
        ConfigError: The network can't be quantised.
        DataError: None of the images can be read.
    """
    problems: dict[str, str] = {}
    count = min(CALIBRATION, len(images.files))
    chosen = sorted(random.Random(0).sample(range(len(images.files)), count))
    files = [images.files[index] for index in chosen]
    batches = read_batches(files, cfg, preprocessor, 'Calibrating', problems)
    try:
        quantise(folder / FLOAT, folder / INT8, (batch for _, batch in batches))
    except Exception as error:  # of onnx, onnxruntime or protobuf
        if len(problems) == len(files):
            raise _unreadable(problems) from error
        first_line = ' '.join(str(error).strip().splitlines()[:1])
        raise ConfigError(
            f'{FLOAT} cannot be quantised: onnxruntime says {type(error).__name__}: {first_line}. '
            'Leave --int8 out. Nothing was written.'
        ) from error
    calibration = len(files) - len(problems)
    sizes = (folder / FLOAT).stat().st_size, (folder / INT8).stat().st_size
    return _compare(folder, images, cfg, preprocessor, calibration, sizes)


def quantise(source: Path, target: Path, batches: Iterator[Tensor]) -> None:
    """Write an ONNX file, with an input named ``input``, with 8-bit integers.

    Weights are quantised for each output channel, to 7 bits of the 8, since products with more
    overflow on processors without VNNI; activations for each tensor, to the range that they have on
    batches of images (N, C, H, W). The graph has QuantizeLinear and DequantizeLinear around the
    operators (QDQ).
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def get_next(self) -> Optional[dict[str, Any]]:
            return next(({'input': batch.numpy()} for batch in batches), None)

    prepared = source.with_name('prepared.onnx')
    try:
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Reader(),
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        prepared.unlink(missing_ok=True)


def _compare(
    folder: Path,
    images: LabelledImages,
    cfg: Any,
    preprocessor: nn.Module,
    calibration: int,
    sizes: tuple[int, int],
) -> Int8:
    """Classes that both files give to each image."""
    runs = [open_onnx(folder / name) for name in (FLOAT, INT8)]
    problems: dict[str, str] = {}
    answers: list[Tensor] = []
    labels: list[int] = []

    batches = read_batches(images.files, cfg, preprocessor, f'Testing {INT8}', problems)
    for indices, batch in batches:
        answers.append(torch.stack([run(batch).argmax(1) for run in runs]))
        labels += [images.labels[index] for index in indices] if images.labels else []
    if not answers:
        raise _unreadable(problems)
    both = torch.cat(answers, 1)
    right = (both == torch.tensor(labels)).double().mean(1) * 100 if labels else None
    note = images.note
    if problems:
        first = next(iter(problems))
        note += f'; {len(problems)} more could not be read, such as {Path(first).name}'
    return Int8(
        images=both.size(1),
        calibration=calibration,
        agreement=float((both[0] == both[1]).double().mean()) * 100,
        before=None if right is None else float(right[0]),
        after=None if right is None else float(right[1]),
        sizes=sizes,
        note=note,
    )


def _unreadable(problems: dict[str, str]) -> DataError:
    file, problem = next(iter(problems.items()))
    return DataError(
        f'--int8: none of {len(problems)} images can be read; the first, {file}: {problem}. Nothing was '
        'written.'
    )
