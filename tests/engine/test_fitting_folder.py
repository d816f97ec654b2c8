"""Whose folder is whose, and what the state of a fitting depends on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mmkdlayer.engine import fit_decisions as module
from mmkdlayer.engine.fit_decisions import fitting_folder, fitting_identity, remove_folders


def identity(monkeypatch, expected=None, settings=None, batch_size=4, ranks=1) -> str:
    monkeypatch.setattr(module, 'get_world_size', lambda: ranks)
    decision = SimpleNamespace(fit_options=lambda: settings or {'num_classes': 3})
    stream = SimpleNamespace(
        loader=SimpleNamespace(batch_size=batch_size),
        layers=[
            SimpleNamespace(
                name='inter', decision=decision, provenance=expected or {'teacher': 't'}
            )
        ],
    )
    return fitting_identity(stream)


def test_the_identity_has_all_that_a_state_depends_on(monkeypatch) -> None:
    changes = [
        dict(),
        dict(expected={'teacher': 'u'}),
        dict(settings={'num_classes': 4}),
        dict(batch_size=5),
        dict(ranks=2),
    ]
    assert len({identity(monkeypatch, **change) for change in changes}) == len(changes)
    assert identity(monkeypatch) == identity(monkeypatch)


def test_a_folder_stays_after_an_error_and_goes_after_success(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    with pytest.raises(KeyError), fitting_folder(tmp_path, out, 'first') as folder:
        (folder / 'state').write_text('')
        raise KeyError
    assert (folder / 'state').exists()
    with fitting_folder(tmp_path, tmp_path / 'other out', 'first') as other:
        assert other != folder and (folder / 'state').exists()
    with fitting_folder(tmp_path, out, 'first') as again:
        assert (again / 'state').exists()
        with fitting_folder(tmp_path, out, 'second'):
            assert not folder.exists()
    assert not list(tmp_path.iterdir())


def test_what_a_finished_fitting_left_is_removed(tmp_path: Path) -> None:
    for name in ('mine', 'theirs'):
        with pytest.raises(KeyError), fitting_folder(tmp_path, tmp_path / name, 'first'):
            raise KeyError
    remove_folders(tmp_path, tmp_path / 'mine')
    assert len(list(tmp_path.iterdir())) == 1
