"""Decisions of a model: fitted, stored, reused; labels are read only where a decision needs them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from seeded_training import SeededImages
from simulated_cuda.device import SimulatedCuda
from torch import nn

from mmkdlayer.engine import fit_decisions as module
from mmkdlayer.engine import prepare_decisions
from mmkdlayer.engine.fit_decisions import FitOptions
from mmkdlayer.engine.prepare_decisions import unchanged_randomness
from mmkdlayer.errors import ConfigError, DataError, ResourceError
from mmkdlayer.fitting import SubclassFitter
from mmkdlayer.fitting.saved_state import SavedState
from mmkdlayer.models import CentroidDecision


class OtherLabels(SeededImages):
    """The same images with other annotations."""

    def label(self, index: int) -> list[int] | None:
        raise NotImplementedError

    def get_data_info(self, index: int) -> dict:
        label = self.label(index)
        return dict(img_path=f'{index}.png', **({} if label is None else dict(gt_label=label)))

    def __getitem__(self, index: int) -> dict:
        sample, label = DataSample(), self.label(index)
        if label is not None:
            sample.set_gt_label(label)
        return dict(super().__getitem__(index), data_samples=sample)


@DATASETS.register_module()
class UnlabelledImages(OtherLabels):
    def label(self, index: int) -> list[int] | None:
        return None


@DATASETS.register_module()
class TwoOfThreeClasses(OtherLabels):
    def label(self, index: int) -> Any:
        return index % 2


@DATASETS.register_module()
class MultiLabelImages(OtherLabels):
    def label(self, index: int) -> list[int] | None:
        return [index % 3, (index + 1) % 3]


@pytest.mark.parametrize('dataset', ['UnlabelledImages', 'MultiLabelImages'])
def test_letkd1_needs_no_labels(
    build: Callable[..., tuple[nn.Module, Any]], tmp_path: Path, dataset: str
) -> None:
    centroids = []
    for name in (dataset, 'SeededImages'):
        model, cfg = build(name, letkd1=True)
        paths = prepare_decisions(model, cfg, tmp_path / name)
        assert list(paths) == ['penult'] and paths['penult'].exists()
        centroids.append(model.distiller.distill_losses['loss_penult'].decision.centroids)
    assert torch.equal(*centroids)


@pytest.mark.parametrize(
    ('dataset', 'words'),
    [
        ('UnlabelledImages', '0.png .*no gt_label'),
        ('MultiLabelImages', r'0.png .* has 2 labels \(\[0, 1\]\).*CentroidDecision'),
    ],
)
def test_letkd2_needs_a_label_of_each_image(
    build: Callable[..., tuple[nn.Module, Any]], tmp_path: Path, dataset: str, words: str
) -> None:
    model, cfg = build(dataset)
    with pytest.raises(DataError, match=words):
        prepare_decisions(model, cfg, tmp_path)


def test_stored_decisions_are_reused(
    build: Callable[..., tuple[nn.Module, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, cfg = build()
    (tmp_path / '.penult.partial-abc.safetensors').write_text('left by a killed process')
    paths = prepare_decisions(first, cfg, tmp_path)
    times = {name: path.stat().st_mtime_ns for name, path in paths.items()}
    again, cfg = build()
    assert prepare_decisions(again, cfg, tmp_path) == paths
    assert {name: path.stat().st_mtime_ns for name, path in paths.items()} == times
    assert sorted(path.name for path in tmp_path.glob('*')) == [
        '.fitting.lock',
        'inter.safetensors',
        'penult.safetensors',
    ]
    for name in paths:
        ours, theirs = (m.distiller.distill_losses[f'loss_{name}'].decision for m in (first, again))
        for table in ours.table_names:
            assert torch.equal(getattr(ours, table), getattr(theirs, table))


def test_a_class_without_images_is_named_or_allowed(
    build: Callable[..., tuple[nn.Module, Any]], tmp_path: Path
) -> None:
    model, cfg = build('TwoOfThreeClasses')
    with pytest.raises(
        DataError, match=r"class 2 \('class 2'\).*FitDecisionsHook\(small_classes=True\)"
    ):
        prepare_decisions(model, cfg, tmp_path)
    with pytest.warns(UserWarning, match='stay unused'):
        prepare_decisions(model, cfg, tmp_path, FitOptions(small_classes=True))
    table = model.distiller.distill_losses['loss_inter'].decision.decisions
    assert table[:4, 4:].sum() == 0 and torch.isfinite(table).all()


def test_a_full_disk_is_named_with_the_decision(
    build: Callable[..., tuple[nn.Module, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, path: Path) -> None:
        raise RuntimeError('I/O error: No space left on device (os error 28)')

    monkeypatch.setattr(CentroidDecision, 'save', full)
    model, cfg = build(letkd1=True)
    with pytest.raises(ResourceError, match=r'out/penult\.safetensors could not be written \('):
        prepare_decisions(model, cfg, tmp_path / 'out')


@pytest.mark.parametrize('damage', ['cache', 'folder in its place', 'pass1', 'pass999'])
def test_a_damaged_state_is_dropped_and_fitting_begins_anew(
    build: Callable[..., tuple[nn.Module, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    expected, cfg = build()
    prepare_decisions(expected, cfg, tmp_path / 'whole')
    model, cfg = build()
    options = FitOptions(cache_dir=str(tmp_path / 'cache'), checkpoint_interval=0)

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    if damage.startswith('pass'):
        monkeypatch.setattr(SavedState, 'begin_pass', killed)
    else:
        monkeypatch.setattr(module, 'check_unchanged', lambda *args: None)
        monkeypatch.setattr(SubclassFitter, '_fit_tables', killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_decisions(model, cfg, tmp_path / 'out', options)
    monkeypatch.undo()
    (folder,) = (tmp_path / 'cache').glob('mmkdlayer_fitting_*')
    if damage.startswith('pass'):
        shutil.copy(folder / 'pass0-rank0of1.npz', folder / f'{damage}-rank0of1.npz')
    else:
        cache = folder / 'inter-rank0.bin'
        content = bytearray(cache.read_bytes())
        content[5] ^= 1
        cache.unlink()
        if damage == 'cache':
            cache.write_bytes(content)
        else:
            cache.mkdir()
    (tmp_path / 'out' / 'penult.safetensors').unlink(missing_ok=True)
    model, cfg = build()
    paths = prepare_decisions(model, cfg, tmp_path / 'out', options)
    assert all(path.exists() for path in paths.values())
    assert not list((tmp_path / 'cache').glob('mmkdlayer_fitting_*'))
    for name in paths:
        ours, theirs = (
            m.distiller.distill_losses[f'loss_{name}'].decision for m in (model, expected)
        )
        for table in ours.table_names:
            assert torch.equal(getattr(ours, table), getattr(theirs, table))


@pytest.mark.parametrize(
    ('penult', 'words'),
    [
        (dict(in_channels=15), r'kd_layers\.penult.*in_channels'),
        (dict(teacher='head'), r'kd_layers\.penult\.teacher: module "head" returns \(1, 3\)'),
    ],
    ids=['channels', 'no map'],
)
def test_sizes_that_do_not_fit_name_the_key(
    build: Callable[..., tuple[nn.Module, Any]], tmp_path: Path, penult: dict, words: str
) -> None:
    model, cfg = build(**penult)
    with pytest.raises(ConfigError, match=words):
        prepare_decisions(model, cfg, tmp_path)


def test_random_numbers_of_a_gpu_are_left_as_they_are() -> None:
    with SimulatedCuda():
        before = torch.cuda.get_rng_state()
        with unchanged_randomness():
            torch.cuda.set_rng_state(before + 1)
        assert torch.equal(torch.cuda.get_rng_state(), before)
