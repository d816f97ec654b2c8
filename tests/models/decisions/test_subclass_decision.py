"""Look-up of the teacher's decisions between sub-classes, against the formulas in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.models import SubclassDecision
from mmkdlayer.registry import MODELS


def make_tables(classes=3, subclasses=2, components=2, channels=5, seed=0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = classes * subclasses
    table = torch.rand(size, size, generator=generator)
    return dict(
        projection=torch.randn(components, channels, generator=generator),
        offset=torch.randn(components, generator=generator),
        centers=torch.randn(size, components, generator=generator),
        decisions=table / table.sum(1, keepdim=True),
    )


def make(classes=3, **sizes) -> SubclassDecision:
    return SubclassDecision.from_tables(**make_tables(classes, **sizes), num_classes=classes)


def oracle(tables: dict[str, Tensor], classes: int, feature: Tensor, label: Tensor) -> Tensor:
    """``p_T(i) = S[a*(i)]`` in plain loops (method.md, section 2b); a mixture for soft labels."""
    lists = {name: table.double().tolist() for name, table in tables.items()}
    size = len(lists['centers'])
    subclasses = size // classes
    images, _, height, width = feature.shape
    found = torch.zeros(images, size, height, width, dtype=torch.float64)
    for n in range(images):
        weights = [0.0] * classes
        if label.is_floating_point():
            weights = label[n].double().tolist()
        else:
            weights[int(label[n])] = 1.0
        for h in range(height):
            for w in range(width):
                vector = feature[n, :, h, w].double().tolist()
                z = [
                    sum(a * f for a, f in zip(row, vector)) + b
                    for row, b in zip(lists['projection'], lists['offset'])
                ]
                for y, weight in enumerate(weights):
                    own = range(y * subclasses, (y + 1) * subclasses)
                    distances = {
                        a: sum((p - q) ** 2 for p, q in zip(z, lists['centers'][a])) for a in own
                    }
                    nearest = min(distances, key=distances.__getitem__)
                    row = torch.tensor(lists['decisions'][nearest], dtype=torch.float64)
                    found[n, :, h, w] += weight * row
    return found


SIZES = [
    dict(classes=3, subclasses=2, components=2, channels=5),
    dict(classes=2, subclasses=1, components=1, channels=3),
    dict(classes=4, subclasses=5, components=3, channels=4),
]


@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('sizes', SIZES)
def test_it_is_the_row_of_the_nearest_own_subclass(sizes, soft):
    tables, classes = make_tables(**sizes), sizes['classes']
    decision = SubclassDecision.from_tables(**tables, num_classes=classes)
    feature = torch.randn(6, sizes['channels'], 2, 3)
    label = torch.arange(6) % classes
    if soft:
        label = torch.rand(6, classes).softmax(1)
    expected = oracle(tables, classes, feature, label)
    found = decision.decide(feature, label)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)
    found = decision.decide(feature.double(), label.double() if soft else label)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int32, torch.int64])
def test_labels_of_any_integer_type(dtype):
    decision = make(300, subclasses=2)
    feature = torch.randn(2, 5, 2, 2)
    label = torch.tensor([7, 199])
    expected = decision.decide(feature, label)
    assert torch.equal(decision.decide(feature, label.to(dtype)), expected)


def test_a_one_hot_soft_label_is_the_hard_label():
    decision = make(4, subclasses=5, components=3)
    feature = torch.randn(8, 5, 3, 3)
    label = torch.arange(8) % 4
    soft = torch.nn.functional.one_hot(label, 4).float()
    hard = decision.decide(feature, label)
    torch.testing.assert_close(decision.decide(feature, soft), hard, atol=1e-7, rtol=0)


def test_soft_labels_in_half_precision_are_taken():
    decision = make()
    feature = torch.randn(2, 5, 2, 2)
    soft = torch.tensor([[0.25, 0.75, 0], [0.5, 0.25, 0.25]])
    found = decision.decide(feature, soft.bfloat16())
    torch.testing.assert_close(found, decision.decide(feature, soft))


@pytest.mark.filterwarnings('ignore:Sparse CSR tensor support')
@pytest.mark.parametrize('layout', [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.parametrize('soft', [False, True])
def test_a_sparse_table_decides_like_the_dense_one(soft, layout):
    tables = make_tables(3, 4)
    tables['decisions'] = torch.where(tables['decisions'] > 0.08, tables['decisions'], 0.0)
    tables['decisions'] /= tables['decisions'].sum(1, keepdim=True)
    dense = SubclassDecision.from_tables(**tables, num_classes=3)
    tables['decisions'] = tables['decisions'].to_sparse(layout=layout)
    sparse = SubclassDecision.from_tables(**tables, num_classes=3)
    feature = torch.randn(4, 5, 3, 2)
    label = torch.rand(4, 3).softmax(1) if soft else torch.tensor([0, 2, 1, 2])
    expected = dense.decide(feature, label)
    found = sparse.decide(feature, label)
    assert not found.is_sparse
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('soft', [False, True])
def test_centers_far_from_the_origin(soft):
    tables = make_tables(3, 4, components=6)
    tables['centers'] = 2000 + torch.randn(12, 6)
    tables['projection'] = torch.eye(6)
    tables['offset'] = torch.zeros(6)
    feature = 2000 + torch.randn(3, 6, 6, 6)
    label = torch.rand(3, 3).softmax(1) if soft else torch.tensor([0, 1, 2])
    found = SubclassDecision.from_tables(**tables, num_classes=3).decide(feature, label)
    expected = oracle(tables, 3, feature, label)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_attributes():
    tables = make_tables(3, 4)
    decision = SubclassDecision.from_tables(**tables, num_classes=3)
    for name, table in tables.items():
        assert torch.equal(getattr(decision, name), table)
    assert torch.equal(decision.prototypes, tables['centers'])
    assert (decision.num_templates, decision.feature_channels) == (12, 5)
    assert (decision.num_classes, decision.num_subclasses) == (3, 4)
    with_prototypes = SubclassDecision.from_tables(
        **tables, num_classes=3, prototypes=tables['centers'] + 1
    )
    assert torch.equal(with_prototypes.prototypes, tables['centers'] + 1)
    config = dict(type='mmkdlayer.SubclassDecision', num_classes=100)
    assert MODELS.build(config).num_templates == 800


@pytest.mark.parametrize('labels', [[0, 3], [-1, 0], [0, 100]])
def test_a_label_out_of_range_is_an_error_that_names_it(labels):
    wrong = labels[1] if labels[1] else labels[0]
    with pytest.raises(DataError, match=rf'0 to 2 \(num_classes=3\), but got \[{wrong}\]'):
        make().decide(torch.randn(2, 5, 2, 2), torch.tensor(labels))


@pytest.mark.parametrize('soft', [[0.2, 0.2, 0.2], [0.5, 0.7, -0.2], [float('nan'), 1, 0]])
def test_a_soft_label_that_is_no_distribution_is_an_error(soft):
    with pytest.raises(DataError, match='soft labels must be probabilities'):
        make().decide(torch.randn(1, 5, 2, 2), torch.tensor([soft]))


@pytest.mark.parametrize(
    'label', [torch.zeros(3).long(), torch.zeros(2, 1).long(), torch.zeros(2), torch.zeros(2, 4)]
)
def test_labels_of_another_shape_are_an_error_that_names_both(label):
    found = ', '.join(map(str, label.shape))
    with pytest.raises(ConfigError, match=rf'\(2,\) of integers or \(2, C=3\).*\({found},?\)'):
        make().decide(torch.randn(2, 5, 2, 2), label)


def test_without_labels_the_error_says_how_to_give_them():
    with pytest.raises(
        ConfigError, match='KDLayerDistiller hands them over.*loss_forward_mappings'
    ):
        make().decide(torch.randn(2, 5, 2, 2))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(projection=torch.zeros(3, 5)), r'"offset" must be \(3,\), but it is \(2,\)'),
        (dict(projection=torch.zeros(5)), r'projection'),
        (dict(offset=torch.zeros(3)), r'"offset" must be \(2,\), but it is \(3,\)'),
        (dict(centers=torch.zeros(7, 2)), r'C=3, but got \(7, 2\)'),
        (dict(centers=torch.zeros(6)), r'C=3, but got \(6,\)'),
        (dict(centers=torch.zeros(9, 2)), r'"decisions" must be \(9, 9\), but it is \(6, 6\)'),
        (dict(decisions=torch.full((6, 6), 0.2)), 'sum to 1, but row 0 sums to 1.2'),
        (dict(decisions=torch.full((6, 6), 0.2).to_sparse()), 'sum to 1, but row 0 sums to 1.2'),
        (dict(offset=torch.tensor([0, float('inf')])), '"offset" holds values that are not finite'),
        (dict(offset=torch.tensor([0, -3e38])), '"offset" holds values up to 3e.38'),
        (dict(centers=torch.full((6, 2), 3e38)), '"centers" holds values up to 3e.38'),
        (
            dict(projection=torch.full((2, 5), 1j)),
            '"projection" in real numbers, but got .*complex',
        ),
        (dict(offset=torch.zeros(2, device='meta')), '"offset" .* a tensor without values'),
    ],
)
def test_tables_that_do_not_fit_each_other(changes, message):
    with pytest.raises(ConfigError, match=message):
        SubclassDecision.from_tables(**{**make_tables(), **changes}, num_classes=3)


def test_a_negative_share_is_no_decision():
    tables = make_tables()
    tables['decisions'][1] = torch.tensor([-0.5, 1.5, 0, 0, 0, 0])
    with pytest.raises(ConfigError, match='"decisions".* negative'):
        SubclassDecision.from_tables(**tables, num_classes=3)


@pytest.mark.parametrize(
    'arguments', [dict(num_classes=1), dict(num_subclasses=0), dict(num_components=0)]
)
def test_arguments_out_of_range(arguments):
    name = next(iter(arguments))
    with pytest.raises(
        ConfigError, match=f'{name} must be (a positive integer|an integer of at least 2)'
    ):
        SubclassDecision(**{'num_classes': 3, **arguments})
