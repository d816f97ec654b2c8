"""What all decisions share: errors, copies, state dicts, registry."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmkdlayer.errors import ConfigError, UnfittedDecisionError
from mmkdlayer.models import CentroidDecision, SubclassDecision
from mmkdlayer.registry import MODELS


def make_centroid() -> CentroidDecision:
    return CentroidDecision.from_tables(torch.randn(4, 3))


def make_subclass() -> SubclassDecision:
    return SubclassDecision.from_tables(
        torch.randn(2, 3), torch.randn(2), torch.randn(4, 2), torch.rand(4, 4).softmax(1), 2
    )


@pytest.mark.parametrize('make', [make_centroid, make_subclass])
def test_decide_pools_and_gives_probabilities(make):
    decision = make()
    feature = torch.randn(2, 3, 5, 4)
    label = torch.tensor([0, 1])
    found = decision.decide(feature, label, size=(2, 3))
    assert found.shape == (2, 4, 2, 3) and (found >= 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(2, 2, 3))
    expected = decision.decide(F.adaptive_avg_pool2d(feature, (2, 3)), label)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('make', [make_centroid, make_subclass])
def test_other_channels_are_an_error_that_names_both(make):
    with pytest.raises(ConfigError, match='3 channels.* have 5 '):
        make().decide(torch.zeros(2, 5, 2, 2), torch.tensor([0, 1]))


@pytest.mark.parametrize('make', [make_centroid, make_subclass])
def test_features_in_half_precision_are_decided_on_in_float32(make):
    decision = make()
    feature = torch.randn(2, 3, 2, 2).bfloat16()
    label = torch.tensor([0, 1])
    expected = decision.decide(feature.float(), label)
    with torch.autocast('cpu', torch.bfloat16):
        found = decision.decide(feature, label)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('make', [make_centroid, make_subclass])
def test_decide_lets_no_gradient_through(make):
    feature = torch.randn(2, 3, 2, 2, requires_grad=True)
    assert not make().decide(feature, torch.tensor([0, 1])).requires_grad


@pytest.mark.parametrize(
    'config',
    [
        dict(type='mmkdlayer.CentroidDecision', num_centroids=4),
        dict(type='mmkdlayer.SubclassDecision', num_classes=2),
    ],
)
@pytest.mark.parametrize('use', ['decide', 'save', 'table', 'feature_channels'])
def test_an_unfitted_decision_names_the_command_that_fits(config, use, tmp_path):
    decision = MODELS.build(config)
    assert not decision.is_fitted and decision.num_templates in (4, 16)
    with pytest.raises(UnfittedDecisionError, match=r'mmkdlayer fit_decisions CONFIG --out'):
        if use == 'decide':
            decision.decide(torch.zeros(1, 3, 2, 2))
        elif use == 'save':
            decision.save(tmp_path / 'file.safetensors')
        elif use == 'table':
            getattr(decision, decision.table_names[0])
        else:
            decision.feature_channels  # noqa: B018
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('make', [make_centroid, make_subclass])
def test_tables_are_no_state(make):
    decision = make()
    assert not decision.state_dict()
    assert not list(decision.parameters()) and not list(decision.buffers())
    holder = nn.Sequential(decision)
    holder.load_state_dict({}, strict=True)
    assert decision.is_fitted


@pytest.mark.parametrize('make', [make_centroid, make_subclass])
def test_a_deep_copy_shares_tables_and_is_independent(make):
    decision = make()
    decision.provenance = dict(seed=1)
    feature, label = torch.randn(2, 3, 2, 2), torch.tensor([0, 1])
    expected = decision.decide(feature, label)
    twin = copy.deepcopy(nn.ModuleList([decision]))[0]
    name = decision.table_names[0]
    assert getattr(twin, name).data_ptr() == getattr(decision, name).data_ptr()
    assert torch.equal(twin.decide(feature, label), expected)
    twin.provenance['seed'] = 2
    assert decision.provenance == dict(seed=1)
    twin.copy_from(make())
    assert not torch.equal(twin.decide(feature, label), expected)
    assert torch.equal(decision.decide(feature, label), expected)


@pytest.mark.parametrize('make', [make_centroid, make_subclass])
def test_a_decision_pickles(make):
    decision = make()
    feature, label = torch.randn(2, 3, 2, 2), torch.tensor([0, 1])
    twin = pickle.loads(pickle.dumps(decision))
    assert torch.equal(twin.decide(feature, label), decision.decide(feature, label))


@pytest.mark.parametrize('make', [make_centroid, make_subclass])
def test_tables_in_half_precision_are_kept_in_float32(make):
    decision = make()
    tables = {name: table.half() for name, table in decision._tables.items()}
    decision.set_tables(**tables)
    assert all(table.dtype == torch.float32 for table in decision._tables.values())


def test_tables_of_another_decision_do_not_fit():
    with pytest.raises(ConfigError, match='expected the table "centroids"'):
        make_centroid().copy_from(make_subclass())
    with pytest.raises(ConfigError, match='expected the tables'):
        make_subclass().copy_from(make_centroid())
