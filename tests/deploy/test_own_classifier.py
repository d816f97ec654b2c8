"""Students of a class that the user derived from ImageClassifier: export, loading, testing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmkdlayer import load_student
from mmkdlayer.deploy import ExportOptions, export_student, student_config
from mmkdlayer.errors import ConfigError

HERE = Path(__file__).parent


@pytest.fixture
def own(monkeypatch):
    """The user's module can be imported, as where it is installed."""
    monkeypatch.syspath_prepend(str(HERE))
    import own_classifier

    return own_classifier


LOADING = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from mmkdlayer import load_student
print('logits', load_student(sys.argv[2])(torch.ones(1, 3, 16, 16)).tolist())
"""


@pytest.mark.parametrize(('by', 'fold'), [('name', True), ('class', False), ('path', False)])
def test_it_is_exported_as_what_it_is(
    by, fold, own, make_distillation, distillation_config, make_config, tmp_path, run_script
):
    kinds = {
        'name': 'ScaledClassifier',
        'class': own.ScaledClassifier,
        'path': 'own_classifier.ScaledClassifier',
    }
    config = distillation_config()
    config['architecture'].update(type=kinds[by], factor=30.0)
    if by == 'name':
        config['architecture']['type'] = 'mmpretrain.ScaledClassifier'
    model = make_distillation(config)
    model.eval()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'own.pth')
    options = ExportOptions(fold=fold)
    export_student(make_config(config), tmp_path / 'own.pth', tmp_path / 'out', options)
    written = Config.fromfile(tmp_path / 'out' / 'student.py')
    assert written.model.type == 'mmkdlayer.KDLayerClassifier' and written.model.factor == 30.0
    assert written.custom_imports.imports == ['mmkdlayer', 'own_classifier']
    student = load_student(tmp_path / 'out')
    assert isinstance(student, own.ScaledClassifier) and len(student.kd_layers) == 2
    images = torch.ones(1, 3, 16, 16)
    expected = model.student(images)
    torch.testing.assert_close(student(images), expected, atol=1e-3, rtol=0)
    assert expected.abs().max() > 0.1
    if fold:  # in a process that has never seen the class
        printed = run_script(LOADING, str(HERE), str(tmp_path / 'out'))
        logits = torch.tensor(eval(printed.split('logits ')[1]))
        torch.testing.assert_close(logits, expected.detach(), atol=1e-3, rtol=0)


def test_a_class_derived_from_ours_stays(own, make_config, distillation_config):
    from mmkdlayer.models import KDLayerClassifier

    class Mine(KDLayerClassifier):
        pass

    config = distillation_config()
    config['architecture']['type'] = Mine
    model = student_config(make_config(config)).model
    assert model.type.endswith('.Mine') and 'base' not in model


def test_what_is_no_classifier_is_refused(own, make_config, distillation_config):
    config = distillation_config()
    config['architecture']['type'] = 'own_classifier.NoClassifier'
    with pytest.raises(ConfigError, match=r'NoClassifier.*classes derived from them'):
        student_config(make_config(config))
    model = dict(config['architecture'], type='mmkdlayer.KDLayerClassifier', base='NoClassifier')
    with pytest.raises(ConfigError, match=r"base must be a class .*got 'NoClassifier'.*custom_imp"):
        MODELS.build(model)
    with pytest.raises(ConfigError, match=r"got 'Unknown'"):
        MODELS.build(dict(model, base='Unknown'))
