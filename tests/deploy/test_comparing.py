"""How far logits may be apart: as their own size allows."""

from __future__ import annotations

import pytest
import torch

from mmkdlayer import load_student
from mmkdlayer.deploy import ExportOptions, export_student
from mmkdlayer.deploy.comparing import Comparison, compare
from mmkdlayer.errors import ConfigError


@pytest.mark.parametrize(
    ('difference', 'scale', 'fits'),
    [
        (0.9e-4, 0.1, True),
        (1.1e-4, 0.1, False),
        (1.22e-4, 1000, True),
        (0.09, 1000, True),
        (0.11, 1000, False),
        (float('nan'), 1000, False),
        (float('inf'), 1000, False),
    ],
)
def test_the_share_of_the_largest_logit_counts(difference, scale, fits):
    comparison = Comparison(difference, scale)
    assert comparison.fits(1e-4) == fits
    if not fits:
        with pytest.raises(
            ConfigError, match=r'student\.pt gives other .*\(0\.0001 of the largest'
        ):
            comparison.check(1e-4, 'student.pt')


def test_a_difference_anywhere_is_found():
    batches = [torch.tensor([[1000.0, 1.0]]), torch.tensor([[1.0, 0.5], [2.0, 3.0]])]

    def off(batch):
        return batch + (batch == 0.5) * 0.25

    for order in (batches, batches[::-1]):
        assert compare(off, lambda batch: batch, order) == (0.25, 1000.0)
        wrong = compare(lambda b: b / (b != 0.5) - b / (b != 0.5) + b, lambda b: b, order)
        assert not wrong.fits(1e-4)  # NaN
    # differences to infinite logits are no numbers, or as large as what is allowed
    infinite = torch.tensor([[float('inf')]])
    for found in (infinite, batches[0]):
        assert not compare(lambda b, found=found: found, lambda b: infinite, [infinite]).fits(1e-4)


def test_a_student_with_logits_of_a_thousand(training, tmp_path, make_batch):
    pytest.importorskip('onnx')
    content = torch.load(training.checkpoint, weights_only=False)
    head = content['state_dict']
    images, _ = make_batch()
    scale = 2000 / float(training.model.student(images).abs().max())
    for name in ('weight', 'bias'):
        head[f'architecture.head.fc.{name}'] *= scale
    torch.save(content, training.checkpoint)
    options = ExportOptions(fold=True, formats=('onnx',))
    result = export_student(training.cfg, training.checkpoint, tmp_path / 'out', options)
    assert result['difference'] < 0.2 and result['formats']['onnx'].comparison.difference < 0.2
    assert load_student(tmp_path / 'out')(images).abs().max() > 1000
