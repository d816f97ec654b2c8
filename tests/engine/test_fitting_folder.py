"""Whose folder is whose, and what the state of a fitting depends on."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmkdlayer.engine import fit_decisions as module
from mmkdlayer.engine import fitting_folder as fitting_folder_module
from mmkdlayer.engine.fit_decisions import check_unchanged, fitting_identity
from mmkdlayer.engine.fitting_folder import fitting_folder, make_private, remove_folders
from mmkdlayer.errors import ConfigError, DataError


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
    changes: list[dict] = [
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


def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    with fitting_folder(tmp_path / 'shared', tmp_path / 'out', 'first') as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o777)
        make_private(folder)  # of an interrupted fitting, say of an older version
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_someone_else_has_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'victim').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'victim')
    with pytest.raises(ConfigError, match='link is for the state .* but it is a link.*cache_dir'):
        make_private(tmp_path / 'link')
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match='no folder of this user'):
        make_private(tmp_path / 'file')
    (tmp_path / 'foreign').mkdir()
    probe = SimpleNamespace(st_uid=os.getuid() + 1, st_size=0)
    monkeypatch.setattr(fitting_folder_module.os, 'fstat', lambda number: probe)
    with pytest.raises(ConfigError, match='no folder of this user'):
        make_private(tmp_path / 'foreign')


def test_a_link_in_the_place_of_a_folder_is_removed_and_its_target_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyError), fitting_folder(tmp_path, tmp_path / 'out', 'first') as folder:
        raise KeyError
    victim = tmp_path / 'victim'
    victim.mkdir()
    (victim / 'text').write_text('kept')
    folder.rmdir()
    folder.symlink_to(victim)
    remove_folders(tmp_path, tmp_path / 'out')
    assert not folder.is_symlink() and (victim / 'text').read_text() == 'kept'


def test_images_that_change_while_they_are_fitted_on_are_an_error() -> None:
    before = {'a.png': (10, 1), 'b.png': (10, 1), 'key': None}
    check_unchanged(before, dict(before))
    for after in (
        dict(before, **{'b.png': (10, 2)}),
        dict(before, **{'b.png': None}),
        {'a.png': (10, 1)},
    ):
        with pytest.raises(DataError, match=r'of 3 images .* such as (b\.png|key)'):
            check_unchanged(before, after)
