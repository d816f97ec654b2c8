"""Networks by their names or configs, with the classes of the data."""

from __future__ import annotations

from pairs import RESNET

from configuring.networks import adapt, load_network


def test_classes_are_set_wherever_they_are_stated() -> None:
    model = load_network('vgg11bn_8xb32_in1k', 'teacher', 3).model
    assert model['backbone']['num_classes'] == 3
    assert model['head']['topk'] == (1,)
    model = dict(
        backbone=dict(num_classes=-1), head=dict(num_classes=9, losses=[dict(num_classes=9)])
    )
    assert adapt(model, 7) == dict(
        backbone=dict(num_classes=-1), head=dict(num_classes=7, losses=[dict(num_classes=7)])
    )


def test_networks() -> None:
    by_name = load_network('resnet18_8xb32_in1k', 'teacher', 1000)
    by_path = load_network('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'teacher', 1000)
    assert by_name.model == by_path.model
    assert by_name.weights.startswith('https://')
    assert by_path.weights is None
    assert by_name.image_size == 224
    # weights for other classes are of no use
    assert load_network('resnet18_8xb32_in1k', 'teacher', 3).weights is None
    # VGG's classifier, and so its classes, are in the backbone
    assert load_network('vgg11bn_8xb32_in1k', 'teacher', 1000).weights is not None
    assert load_network(RESNET, 'teacher', 10).image_size == 32
