"""The commands: arguments in, one line out, errors without a traceback."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from command_line import load_tool


def test_convert_teacher(crd_state, tmp_path, capsys):
    main = load_tool('convert_teacher').main
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
    main = load_tool('convert_decisions').main
    book = np.arange(6.0).reshape(3, 2)
    torch.save({'network._embedding.weight': torch.from_numpy(book)}, tmp_path / 'vq.pth')
    main(['letkd', str(tmp_path), str(tmp_path / 'out')])
    assert 'penult.safetensors: CentroidDecision, 3 templates' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        main(['letkd', str(tmp_path / 'nowhere'), str(tmp_path / 'out')])
    assert capsys.readouterr().err.strip().startswith('error: ')
