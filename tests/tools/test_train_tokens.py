"""A ViT teaches a ViT: trained, interrupted, resumed, tested and exported by the commands."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from command_line import ROOT, TINY, Main, recording_config, run, start, write_images
from training_probes import read_losses

from mmkdlayer import load_student
from mmkdlayer.checkpoints import read_state_dict

CONFIG = ROOT / 'configs' / 'kdlayer' / 'folder_example_vit.py'
CHANGES = {key: value for key, value in TINY.items() if not key.startswith('model.')} | {
    'train_dataloader.batch_size': 5,
    'model.distiller.kd_layers.inter.decision.num_subclasses': 2,
    'model.distiller.kd_layers.penult.decision.num_centroids': 8,
}


def line(config: Path, *args: object, data: Path) -> list[str]:
    options = [f'{key}={value}' for key, value in CHANGES.items()]
    return [str(config), *map(str, args), '--data-root', str(data), '--cfg-options', *options]


def test_from_training_to_export(tmp_path: Path, main: Main) -> None:
    data = write_images(tmp_path / 'data')
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    config = recording_config(tmp_path, config=CONFIG)
    run('train.py', line(config, '--work-dir', whole, data=data))
    stop = "dict(type='SendSignal', name='SIGTERM', iteration=2)"
    config = recording_config(tmp_path, hook=stop, config=CONFIG)
    process = start('train.py', line(config, '--work-dir', parts, '--resume', data=data))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 75, output[-4000:]
    config = recording_config(tmp_path, config=CONFIG)
    run('train.py', line(config, '--work-dir', parts, '--resume', data=data))
    expected, found = read_losses(whole), read_losses(parts)
    assert len(expected) == 6 and [f['images'] for f in found] == [e['images'] for e in expected]
    for ours, theirs in zip(found, expected):
        del ours['images'], theirs['images']
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    assert {'distill.loss_inter', 'distill.loss_penult'} < set(expected[0])

    checkpoint = parts / 'epoch_1.pth'
    formats = ['--onnx'] if importlib.util.find_spec('onnxruntime') else []
    for options in ([], ['--fold', '--torchscript', *formats]):
        out = tmp_path / ('folded' if options else 'plain')
        code, errors = main(
            'export_student.py', line(config, checkpoint, '--out', out, *options, data=data)
        )
        assert code == 0, errors
    images = torch.randn(3, 3, 16, 16)
    plain, folded = (load_student(tmp_path / name).eval() for name in ('plain', 'folded'))
    trained = read_state_dict(checkpoint)[0]
    key = 'kd_layers.inter.templates.weight'
    assert torch.equal(plain.state_dict()[key], trained[f'architecture.{key}'])
    logits = plain(images)
    torch.testing.assert_close(folded(images), logits, rtol=0, atol=1e-4)
    with torch.no_grad():  # what the layers feed forward reaches the logits
        for layer in plain.kd_layers.values():
            layer.semantics.scale.zero_()
    assert (plain(images) - logits).abs().max() > 1e-3
