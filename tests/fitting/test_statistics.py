from __future__ import annotations

import numpy as np
import pytest
import torch

from mmkdlayer.fitting.lda import ClassStatistics


def oracle(rows, labels, classes):
    """Class counts and means, and within-class scatter, by plain loops."""
    rows, labels = rows.numpy(), labels.numpy()
    within = np.zeros((rows.shape[1], rows.shape[1]))
    counts, means = [], []
    for index in range(classes):
        own = rows[labels == index]
        counts.append(len(own))
        means.append(own.mean(0))
        for row in own:
            within += np.outer(row - means[-1], row - means[-1])
    return np.array(counts), np.array(means), within


def gather(maps, size, seed=None, shift=0.0):
    statistics = ClassStatistics.zeros(6, maps.features.shape[1], torch.device('cpu'))
    for features, labels in maps.batches(size, seed):
        flat = (features + shift).flatten(2).transpose(1, 2).contiguous()
        statistics.update(flat, labels)
    return statistics


@pytest.mark.parametrize(('size', 'seed'), [(120, None), (1, 3), (7, 4), (50, 5)])
def test_statistics_equal_plain_loops_for_any_batches(maps, size, seed):
    statistics = gather(maps, size, seed)
    counts, means, within = oracle(*maps.positions(), 6)
    assert statistics.counts.tolist() == counts.tolist()
    np.testing.assert_allclose(statistics.means().numpy(), means, rtol=1e-12)
    np.testing.assert_allclose(statistics.within_scatter().numpy(), within, rtol=1e-10, atol=1e-9)


def test_a_mean_far_from_zero_costs_no_precision(maps):
    shifted = maps._replace(features=maps.features + 1000.0)
    within = gather(shifted, 7).within_scatter().numpy()
    _, _, expected = oracle(*shifted.positions(), 6)
    np.testing.assert_allclose(within, expected, rtol=1e-9, atol=1e-8)
