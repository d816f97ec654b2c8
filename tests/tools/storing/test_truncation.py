"""What is kept of a distribution, and the stated bound of what that changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up_store import loss_error, spread

from storing.truncation import (
    choose_k,
    keep_top,
    round_down,
    sum_falling,
)


def distributions(sharpness: float, templates: int = 40, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(64, templates, generator=generator)).softmax(1)


def test_halves_are_rounded_down_to_their_neighbour() -> None:
    values = torch.rand(5000) ** 8
    found = round_down(values).numpy()
    assert (found.astype(np.float32) <= values.numpy()).all()
    assert (np.nextafter(found, np.float16(2)).astype(np.float32) > values.numpy()).all()
    assert round_down(torch.tensor([0.0, 1.0, 1e-9])).tolist() == [0, 1, 0]


@pytest.mark.parametrize('sharpness', [0.1, 1.0, 3.0, 10.0])
@pytest.mark.parametrize('k', [1, 4, 39])
def test_the_loss_changes_by_no_more_than_is_stated(sharpness: float, k: int) -> None:
    for seed in range(5):
        p = distributions(sharpness, seed=seed).double()
        rows, kept = keep_top(p, k)
        read = spread(rows, kept, 40).double()
        assert torch.allclose(read.sum(1), torch.ones(64, dtype=torch.float64), atol=1e-6)
        for scale in (1.0, 3.0):
            scores = scale * (2 * torch.rand(64, 40, dtype=torch.float64) - 1)
            log_q = scores.log_softmax(1)
            exact, found = ((torch.special.xlogy(t, t) - t * log_q).sum(1) for t in (p, read))
            rest = 1 - kept.double().sum(1)
            for position in range(64):
                bound = loss_error(float(rest[position]), 2 * scale, 40)
                assert abs(exact[position] - found[position]) <= bound + 1e-6
            assert ((p - read).abs().sum(1) <= 2 * rest + 1e-6).all()  # of the gradient
            mean = loss_error(float(rest.mean()), 2 * scale, 40)
            assert abs((exact - found).mean()) <= mean + 1e-6


def test_the_bound_is_of_the_size_of_what_can_happen() -> None:
    p = torch.full((1, 40), 0.01 / 39)
    p[0, 0] = 0.99
    worst = torch.zeros(1, 40)
    worst[0, :2] = torch.tensor([0.99, 0.01])
    scores = torch.full((1, 40), 3.0)
    scores[0, 1] = -3
    difference = ((p - worst) * scores).sum()
    assert 0.9 * 0.01 * 6 < difference < loss_error(0.01, 6, 40)


@pytest.mark.parametrize('sharpness', [0.3, 1.0, 3.0, 10.0])
def test_k_is_the_smallest_that_leaves_one_percent(sharpness: float) -> None:
    p = distributions(sharpness)
    k, rest = choose_k(sum(sum_falling(part) for part in p.split(10)), len(p))

    def left(kept: int) -> float:
        return float(1 - keep_top(p, kept)[1].double().sum(1).mean())

    assert rest == pytest.approx(left(k), abs=1e-6)
    assert k == 39 or left(k) <= 0.01
    assert k == 1 or left(k - 1) > 0.01


def test_one_template_alone() -> None:
    ones = torch.ones(3, 1)
    assert choose_k(sum_falling(ones), 3) == (1, 0.0)
    assert spread(*keep_top(ones, 1), 1).tolist() == [[1.0]] * 3
