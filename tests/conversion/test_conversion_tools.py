"""The commands: arguments in, one line out, errors without a traceback."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

TOOLS = Path(__file__).parents[2] / 'tools'


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_convert_teacher(crd_state, tmp_path, capsys):
    main = tool('convert_teacher')
    source, target = str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth')
    torch.save({'model': crd_state('resnet8')}, source)
    main(['crd', source, target, '--arch', 'resnet8', '--num-classes', '100'])
    assert "resnet8, checked; backbone={'type': 'mmkdlayer.CifarResNet'" in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        main(['torchvision', source, target])
    error = capsys.readouterr().err
    assert error.strip().startswith(f'error: {source}: expected a network of torchvision')
    assert error.strip().count('\n') == 0
    with pytest.raises(SystemExit):
        main(['elsewhere', source, target])


def test_convert_decisions(tmp_path, capsys):
    main = tool('convert_decisions')
    book = np.arange(6.0).reshape(3, 2)
    torch.save({'network._embedding.weight': torch.from_numpy(book)}, tmp_path / 'vq.pth')
    main(['letkd', str(tmp_path), str(tmp_path / 'out')])
    assert 'penult.safetensors: CentroidDecision, 3 templates' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        main(['letkd', str(tmp_path / 'nowhere'), str(tmp_path / 'out')])
    assert capsys.readouterr().err.strip().startswith('error: ')


def test_prepare_tinyimagenet(tmp_path, capsys):
    main = tool('prepare_tinyimagenet')
    with pytest.raises(SystemExit, match='2'):
        main([str(tmp_path)])
    assert capsys.readouterr().err.strip().startswith(f'error: {tmp_path}: expected Tiny-ImageNet')
    (tmp_path / 'train' / 'n01').mkdir(parents=True)
    (tmp_path / 'val' / 'images').mkdir(parents=True)
    (tmp_path / 'val' / 'images' / 'a.JPEG').write_text('')
    (tmp_path / 'val' / 'val_annotations.txt').write_text('a.JPEG\tn01\t0\t0\t1\t1\n')
    main([str(tmp_path)])
    assert '1 images sorted' in capsys.readouterr().out
    main([str(tmp_path)])
    assert 'already sorted' in capsys.readouterr().out
