from __future__ import annotations

import pytest
import torch

from mmkdlayer.fitting.decision_table import fit_decisions, fit_prototypes
from mmkdlayer.fitting.projected_features import ProjectedFeatures

CLASSES, SUBCLASSES, LENGTH = 4, 3, 5


@pytest.fixture
def stored(tmp_path):
    """Positions of 4 classes in a file, centers, and the stored z and labels themselves."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (80,), generator=generator)
    features = torch.randn(80, 6, 7, generator=generator)
    projected = ProjectedFeatures(
        torch.randn(LENGTH, 7, generator=generator),
        20 + torch.randn(LENGTH, generator=generator),
        20 + torch.randn(CLASSES, LENGTH, generator=generator).double(),
        tmp_path / 'features',
    )
    centers = torch.randn(CLASSES, SUBCLASSES, LENGTH, generator=generator)
    centers[2, 1] += 1000.0  # no position will be near
    centers = (centers + projected.means[:, None]).flatten(0, 1).float()
    offsets = [projected.write(features[part], labels[part]) for part in torch.arange(80).split(17)]
    z = torch.cat(offsets).double() * 2.0**-23 + projected.means[labels][:, None]
    yield projected, centers, z, labels
    projected.close()


def own_subclasses(z, labels, centers):
    found = torch.zeros(z.shape[:2], dtype=torch.int64)
    for image, label in enumerate(labels.tolist()):
        for place in range(z.shape[1]):
            rows = slice(label * SUBCLASSES, (label + 1) * SUBCLASSES)
            distances = (centers[rows].double() - z[image, place]).square().sum(1)
            found[image, place] = label * SUBCLASSES + int(distances.argmin())
    return found


def test_prototypes_are_the_means_of_sub_classes(stored):
    projected, centers, z, labels = stored
    found = fit_prototypes(projected, centers)
    own = own_subclasses(z, labels, centers)
    for index in range(CLASSES * SUBCLASSES):
        members = z[own == index]
        if len(members):
            assert torch.allclose(found[index].double(), members.mean(0), rtol=1e-6)
        else:
            assert torch.equal(found[index], centers[index])


def test_table_equals_a_brute_force_count_exactly(stored):
    projected, centers, z, labels = stored
    prototypes = fit_prototypes(projected, centers)
    table = fit_decisions(projected, centers, prototypes)
    size = CLASSES * SUBCLASSES
    counts = torch.zeros(size, size, dtype=torch.float64)
    own = own_subclasses(z, labels, centers).flatten()
    for a, point in zip(own.tolist(), z.flatten(0, 1)):
        counts[a, int((prototypes.double() - point).square().sum(1).argmin())] += 1
    empty = counts.sum(1) == 0
    assert empty.nonzero().flatten().tolist() == [7]
    center = centers[7].double()
    counts[7, int((prototypes.double() - center).square().sum(1).argmin())] = 1
    assert torch.equal(table, (counts / counts.sum(1, keepdim=True)).float())
    assert (counts > 0).sum() > 2 * size  # the comparison is not one of certain rows
