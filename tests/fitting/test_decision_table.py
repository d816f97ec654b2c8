from __future__ import annotations

import pytest
import torch

from mmkdlayer.fitting.decision_table import StoredPositions, fit_decisions, fit_prototypes
from mmkdlayer.fitting.projected_features import ProjectedSpace, ProjectionCache

CLASSES, SUBCLASSES, LENGTH = 4, 3, 5


@pytest.fixture
def stored(tmp_path):
    """Positions of 4 classes in a cache, centers, and the stored z and labels themselves."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (80,), generator=generator)
    features = torch.randn(80, 6, 7, generator=generator)
    space = ProjectedSpace(
        torch.randn(LENGTH, 7, generator=generator),
        20 + torch.randn(LENGTH, generator=generator),
        20 + torch.randn(CLASSES, LENGTH, generator=generator).double(),
    )
    centers = torch.randn(CLASSES, SUBCLASSES, LENGTH, generator=generator)
    centers[2, 1] += 1000.0  # no position will be near
    centers = (centers + space.means[:, None]).flatten(0, 1).float()
    cache = ProjectionCache(LENGTH, tmp_path / 'features', 0)
    offsets = space.store(features, labels)
    for part in torch.arange(80).split(17):
        cache.write(offsets[part], labels[part])
    z = offsets.double() * 2.0**-23 + space.means[labels][:, None]
    yield StoredPositions(cache, space, centers), z, labels
    cache.close()


def own_subclasses(z, labels, centers):
    found = torch.zeros(z.shape[:2], dtype=torch.int64)
    for image, label in enumerate(labels.tolist()):
        for place in range(z.shape[1]):
            rows = slice(label * SUBCLASSES, (label + 1) * SUBCLASSES)
            distances = (centers[rows].double() - z[image, place]).square().sum(1)
            found[image, place] = label * SUBCLASSES + int(distances.argmin())
    return found


def test_stored_offsets_are_the_rounded_projection():
    generator = torch.Generator().manual_seed(0)
    space = ProjectedSpace(torch.eye(3), torch.ones(3), torch.full((2, 3), 1e4).double())
    features = 1e4 + torch.randn(4, 2, 3, generator=generator)
    labels = torch.tensor([0, 1, 1, 0])
    z = space.restore(space.store(features, labels), labels)
    assert (z - features.double() - 1).abs().max() <= 2.0**-24
    far = space.restore(space.store(features * 1e6, labels), labels)
    assert torch.equal(far - space.means[labels][:, None], torch.full_like(far, 256 - 2.0**-23))


def test_stored_offsets_do_not_depend_on_the_shape_of_the_batch():
    generator = torch.Generator().manual_seed(0)
    space = ProjectedSpace(
        torch.randn(30, 64, generator=generator),
        torch.randn(30, generator=generator),
        torch.randn(2, 30, generator=generator).double(),
    )
    features = torch.randn(400, 9, 64, generator=generator)
    labels = torch.randint(0, 2, (400,), generator=generator)
    whole = space.store(features, labels)
    for size in (1, 7):
        parts = zip(features.split(size), labels.split(size))
        assert torch.equal(torch.cat([space.store(*part) for part in parts]), whole)
    z = torch.einsum('bpd,ld->bpl', features.double(), space.projection.double())
    expected = z + space.offset.double() - space.means[labels][:, None]
    assert torch.equal(whole, (expected * 2.0**23).round().int())


def test_prototypes_are_the_means_of_sub_classes(stored):
    positions, z, labels = stored
    found = fit_prototypes(positions)
    own = own_subclasses(z, labels, positions.centers)
    for index in range(CLASSES * SUBCLASSES):
        members = z[own == index]
        if len(members):
            assert torch.allclose(found[index].double(), members.mean(0), rtol=1e-6)
        else:
            assert torch.equal(found[index], positions.centers[index])


def test_table_equals_a_brute_force_count_exactly(stored):
    positions, z, labels = stored
    prototypes = fit_prototypes(positions)
    table = fit_decisions(positions, prototypes)
    size = CLASSES * SUBCLASSES
    counts = torch.zeros(size, size, dtype=torch.float64)
    own = own_subclasses(z, labels, positions.centers).flatten()
    for a, point in zip(own.tolist(), z.flatten(0, 1)):
        counts[a, int((prototypes.double() - point).square().sum(1).argmin())] += 1
    empty = counts.sum(1) == 0
    assert empty.nonzero().flatten().tolist() == [7]
    center = positions.centers[7].double()
    counts[7, int((prototypes.double() - center).square().sum(1).argmin())] = 1
    assert torch.equal(table, (counts / counts.sum(1, keepdim=True)).float())
    assert (counts > 0).sum() > 2 * size  # the comparison is not one of certain rows
