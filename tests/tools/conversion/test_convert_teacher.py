"""The commands: arguments in, one line out, errors without a traceback."""

from __future__ import annotations

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
