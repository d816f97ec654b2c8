"""What a KD layer does with images, compared with the formulas in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mmkdlayer.deploy.folded_kd_layer import fold_layer
from mmkdlayer.models import KDLayerConnector
from mmkdlayer.report import template_use
from mmkdlayer.report.template_use import BINS, LayerWatch, TemplateUse, find_layers

CHANNELS, TEMPLATES, IMAGES, SIZE = 4, 6, 3, (2, 2)


@pytest.fixture
def layer() -> KDLayerConnector:
    found = KDLayerConnector(CHANNELS, TEMPLATES, alpha=0.5)
    nn.init.normal_(found.bn.bias, -0.3)
    with torch.no_grad():
        found.bn.bias[1] = -100  # never fires
    return found.eval()


@torch.no_grad()
def test_statistics_are_those_of_loops(layer: KDLayerConnector) -> None:
    x, labels = torch.randn(IMAGES, CHANNELS, *SIZE), np.array([1, 0, 1])
    watch = LayerWatch(layer)
    out = layer(x)
    watch.remove()
    layer(x + 1)  # no longer seen
    use = TemplateUse(layer, classes=2)
    use.add(watch, watch.matches(watch.scores()), np.arange(IMAGES), labels)

    fires, strongest, ratios = np.zeros(TEMPLATES, int), np.zeros((TEMPLATES, 2), int), []
    for n, row, column in np.ndindex(IMAGES, *SIZE):
        v = x[n, :, row, column].double()
        p = []
        for k in range(TEMPLATES):
            w = layer.templates.weight[k, :, 0, 0].double()
            score = 3.0 * float(w @ v / (w.norm() * v.norm()))
            score = score / (1 + layer.bn.eps) ** 0.5 + float(layer.bn.bias[k])
            p.append(max(0.0, score))
            fires[k] += score > 0
        if max(p) > 0:
            strongest[int(np.argmax(p)), labels[n]] += 1
        added = out[n, :, row, column].double() - v
        ratios.append(float(added.norm() / v.norm()))
    assert use.fires.tolist() == fires.tolist()
    assert use.dead.tolist() == [k for k in range(TEMPLATES) if not fires[k]] and 1 in use.dead
    assert use.vocabulary.by_class.tolist() == strongest.tolist()
    assert use.ratio == pytest.approx(np.mean(ratios), rel=1e-5)
    expected = np.histogram(np.minimum(ratios, BINS[-1]), [*BINS, 1e9])[0]
    assert use.ratios.tolist() == expected.tolist()
    assert use.scales == {'templates': (3.0, 3.0), 'semantics': (1.0, 1.0)}


@torch.no_grad()
def test_places_are_of_as_many_images_and_where_the_template_fires(
    layer: KDLayerConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_use, 'STRONGEST', TEMPLATES)
    watch = LayerWatch(layer)
    layer(torch.randn(IMAGES, CHANNELS, *SIZE))
    matches = watch.matches(watch.scores())
    use = TemplateUse(layer, classes=0)
    use.add(watch, matches, np.arange(IMAGES), np.full(IMAGES, -1))
    greatest = matches.amax((2, 3))
    for k in range(TEMPLATES):
        places = use.vocabulary.places(k)
        found = {place.image: place.value for place in places}
        assert len(found) == len(places)
        expected = {n: greatest[n, k].item() for n in range(IMAGES) if greatest[n, k] > 0}
        assert found == pytest.approx(expected)


@torch.no_grad()
def test_a_folded_layer_fires_at_the_same_places(layer: KDLayerConnector) -> None:
    folded = fold_layer(layer)
    assert folded is not None
    x = torch.randn(IMAGES, CHANNELS, *SIZE)
    found = []
    for one in (layer, folded):
        watch = LayerWatch(one)
        one(x)
        found.append((watch.matches(watch.scores()), watch.scores()))
    torch.testing.assert_close(found[0][0][:, [0, 2, 3, 4, 5]], found[1][0])
    assert found[1][1] is None  # whose scores are not known


def test_layers_are_found_under_their_names(layer: KDLayerConnector) -> None:
    student = nn.Module()
    student.kd_layers = nn.ModuleDict(dict(inter=layer))
    student.other = nn.Conv2d(1, 1, 1)
    assert find_layers(student) == {'inter': layer}
