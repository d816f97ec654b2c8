"""FLOPs by module, against counts by hand."""

from __future__ import annotations

from torch import nn

from mmkdlayer.deploy.flops import count_flops


def test_flops_of_a_network_and_its_parts() -> None:
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 48, 5)
    flops = count_flops(nn.Sequential(*layers).eval(), (3, 8, 6))
    assert (flops['0'], flops['1'], flops['3']) == (48 * 4 * 27, 2 * 48 * 4, 4 * 48 * 5)
    assert flops[''] == flops['0'] + flops['1'] + flops['3']
