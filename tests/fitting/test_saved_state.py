from __future__ import annotations

import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fitted_tables import tables_of

from mmkdlayer.errors import SavedStateError
from mmkdlayer.fitting import (
    CentroidFitter,
    SubclassFitter,
    projected_features,
    run_fitters,
    subclasses,
)
from mmkdlayer.fitting.projected_features import ProjectedFeatures
from mmkdlayer.fitting.saved_state import Point, SavedState


class Interrupted(BaseException):
    """As a signal would: no error that fitting handles."""


class Stream:
    """Named batches that can end in the middle, and that count what is read."""

    def __init__(self, maps, names, left=None):
        self.batches = maps.batches(25)
        self.names = names
        self.left = left
        self.read = 0

    def __iter__(self):
        for features, labels in self.batches:
            if self.left is not None:
                if self.left == 0:
                    raise Interrupted
                self.left -= 1
            self.read += 1
            yield dict.fromkeys(self.names, features), labels


def make_fitters(folder, budget, streaming_passes):
    return {
        'penult': CentroidFitter(
            7, memory_budget=budget, streaming_passes=streaming_passes, iterations=4
        ),
        'inter': SubclassFitter(
            6, 3, memory_budget=6 * budget, cache_dir=str(folder), cache_name='inter.bin'
        ),
    }


def all_tables(results):
    return {
        f'{name} {key}': table
        for name, decision in results.items()
        for key, table in tables_of(decision).items()
    }


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        same = torch.equal(value, second[name]) if torch.is_tensor(value) else value == second[name]
        assert same, name


@pytest.mark.parametrize('budget', [1 << 20, 60 * 100], ids=['all', 'sample'])
@pytest.mark.parametrize('streaming_passes', [0, 2])
def test_an_interruption_anywhere_changes_no_bit(maps, tmp_path, budget, streaming_passes):
    names = ['inter', 'penult']
    fitters = make_fitters(tmp_path, budget, streaming_passes)
    expected = all_tables(run_fitters(Stream(maps, names), fitters))
    number = len(maps.batches(25))
    passes = max(fitter.num_passes for fitter in fitters.values())
    for left in range(1, passes * number):
        folder = tmp_path / str(left)
        folder.mkdir()
        finished = {}
        stream = Stream(maps, names, left)
        with pytest.raises(Interrupted):
            saved = SavedState(folder, 'mine', interval=0)
            fitters = make_fitters(folder, budget, streaming_passes)
            run_fitters(stream, fitters, None, finished.__setitem__, saved)
        again = make_fitters(folder, budget, streaming_passes)
        rest = {name: fitter for name, fitter in again.items() if name not in finished}
        later = Stream(maps, names)
        run_fitters(later, rest, None, finished.__setitem__, SavedState(folder, 'mine', 0))
        assert_same_bits(all_tables(finished), expected)
        # islice reads what is skipped: all of the interrupted pass, nothing of those before.
        assert later.read == (passes - left // number) * number


def test_between_saves_the_last_one_counts(maps, tmp_path):
    saved = SavedState(tmp_path, 'mine', interval=3600)
    with pytest.raises(Interrupted):
        run_fitters(Stream(maps, ['penult'], 3), {'penult': CentroidFitter(7)}, None, None, saved)
    assert saved.resume({'penult': CentroidFitter(7)}) == Point(0, 0)
    saved.interval = 0
    with pytest.raises(Interrupted):
        run_fitters(Stream(maps, ['penult'], 3), {'penult': CentroidFitter(7)}, None, None, saved)
    assert saved.resume({'penult': CentroidFitter(7)}) == Point(0, 3)


@pytest.fixture
def saved(maps, tmp_path):
    """What is saved after one batch."""
    fitter = CentroidFitter(7)
    fitter.update(0, *maps.batches(25)[0])
    saved = SavedState(tmp_path, 'mine')
    assert saved.save(Point(0, 1), {'penult': fitter})
    return saved


def test_the_state_of_something_else_is_not_used(saved):
    assert saved.resume({'penult': CentroidFitter(7)}) == Point(0, 1)
    assert SavedState(saved.folder, 'other').resume({'penult': CentroidFitter(7)}) == Point()
    assert saved.resume({'inter': CentroidFitter(7)}) == Point()
    (saved.folder / 'pass0-rank0of1.npz').rename(saved.folder / 'pass0-rank0of2.npz')
    assert saved.resume({'penult': CentroidFitter(7)}) == Point()


@pytest.mark.parametrize('damage', ['truncated', 'flipped', 'empty'])
def test_a_damaged_state_is_not_used(saved, damage):
    (path,) = saved.folder.iterdir()
    content = bytearray(path.read_bytes())
    if damage == 'flipped':
        content[len(content) // 2] ^= 0xFF
    size = {'truncated': len(content) // 2, 'flipped': len(content), 'empty': 0}[damage]
    path.write_bytes(bytes(content[:size]))
    with pytest.warns(UserWarning, match='damaged'):
        assert saved.resume({'penult': CentroidFitter(7)}) == Point()


def test_no_damage_ends_the_fitting(saved):
    (path,) = saved.folder.iterdir()
    content = path.read_bytes()
    directory = content.index(b'PK\1\2')
    for place in range(directory, directory + 12):  # versions, flags and method of the first member
        damaged = bytearray(content)
        damaged[place] ^= 0x81
        path.write_bytes(bytes(damaged))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            assert saved.resume({'penult': CentroidFitter(7)}) in (Point(), Point(0, 1))


def change(path, **changes):
    """Write a state again with other arrays (None: without), as by hand: its checksum stays."""
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files}
    arrays.update(changes)
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    'changes',
    [
        dict(batches=-3),
        dict(batches=10**9),
        dict(batches=np.arange(3)),
        dict(batches=None),
        dict(run=None),
        dict(content=None),
        {'penult/counts': None},
        {'penult/counts': np.array(['text'])},
        {'penult/channels': np.array(7)},
        {'penult/sample/rows': np.zeros(3)},
    ],
    ids=str,
)
def test_a_state_that_was_changed_is_dropped(saved, changes):
    (path,) = saved.folder.iterdir()
    change(path, **changes)
    with pytest.warns(UserWarning, match=r'pass0-rank0of1\.npz is damaged .* removed'):
        assert saved.resume({'penult': CentroidFitter(7)}) == Point()
    assert not path.exists()


@pytest.mark.parametrize('batches', [-1, 5])
def test_an_impossible_number_of_batches_is_dropped(maps, saved, batches):
    fitter = CentroidFitter(7)
    fitter.update(0, *maps.batches(25)[0])
    saved.save(Point(0, batches), {'penult': fitter})
    with pytest.warns(UserWarning, match=f'{batches} batches are done, but a pass has 4'):
        assert saved.resume({'penult': CentroidFitter(7)}, num_batches=4) == Point()


def test_a_folder_in_the_place_of_a_state_is_dropped(maps, tmp_path):
    (tmp_path / 'pass0-rank0of1.npz' / 'inner').mkdir(parents=True)
    saved = SavedState(tmp_path, 'mine', interval=0)
    with pytest.warns(UserWarning, match='damaged'), pytest.raises(Interrupted):
        run_fitters(Stream(maps, ['penult'], 2), {'penult': CentroidFitter(7)}, saved=saved)
    assert saved.resume({'penult': CentroidFitter(7)}) == Point(0, 2)


def test_a_state_of_another_pass_is_dropped(saved):
    copied = saved.folder / 'pass1-rank0of1.npz'
    shutil.copy(saved.folder / 'pass0-rank0of1.npz', copied)
    with pytest.warns(UserWarning, match='it is of teacher pass 1'):
        found = saved.resume({'penult': CentroidFitter(7, streaming_passes=1)})
    assert found == Point(0, 1) and not copied.exists()


def test_a_compressed_state_is_not_expanded(saved):
    (path,) = saved.folder.iterdir()
    with np.load(path) as found:
        np.savez_compressed(path, bomb=np.zeros(1 << 20), **found)
    with pytest.warns(UserWarning, match='it is compressed'):
        assert saved.resume({'penult': CentroidFitter(7)}) == Point()


def test_a_state_that_a_fitter_does_not_understand_is_dropped(saved, monkeypatch):
    def fail(fitter, state):
        raise AssertionError('step')

    monkeypatch.setattr(CentroidFitter, '_restore', fail)
    with pytest.raises(SavedStateError, match=r'pass0-rank0of1\.npz can not be used: step'):
        saved.resume({'penult': CentroidFitter(7)})
    monkeypatch.undo()
    assert saved.resume({'penult': CentroidFitter(7)}) == Point()


def test_what_was_half_written_is_removed(saved):
    (path,) = saved.folder.iterdir()
    (saved.folder / '.pass0-rank0of1.abc.npz').write_bytes(b'half')
    other = saved.folder / '.pass0-rank1of2.abc.npz'
    other.write_bytes(b'of another rank')
    assert saved.resume({'penult': CentroidFitter(7)}) == Point(0, 1)
    assert set(saved.folder.iterdir()) == {path, other}


def test_projected_features_that_cannot_be_written_are_an_error(maps, tmp_path, monkeypatch):
    def full(projected):
        raise OSError('no space left')

    monkeypatch.setattr(ProjectedFeatures, 'state', full)
    fitters = {'inter': make_fitters(tmp_path, 1 << 20, 0)['inter']}
    saved = SavedState(tmp_path, 'mine', interval=0)
    with pytest.raises(OSError, match='no space left'):
        run_fitters(Stream(maps, ['inter']), fitters, saved=saved)


def test_resuming_needs_only_the_own_rest_of_the_disk(maps, tmp_path, monkeypatch):
    number = len(maps.batches(25))
    saved = SavedState(tmp_path, 'mine', interval=0)
    monkeypatch.setattr(subclasses, 'total_on_this_machine', lambda size: 8 * size)  # 8 ranks
    fitters = {'inter': make_fitters(tmp_path, 1 << 20, 0)['inter']}
    with pytest.raises(Interrupted):
        run_fitters(Stream(maps, ['inter'], 2 * number - 1), fitters, saved=saved)
    written = (tmp_path / 'inter.bin').stat().st_size
    free = SimpleNamespace(free=projected_features._RESERVE + 2 * written)
    monkeypatch.setattr(projected_features.shutil, 'disk_usage', lambda folder: free)
    fitters = {'inter': make_fitters(tmp_path, 1 << 20, 0)['inter']}
    results = run_fitters(Stream(maps, ['inter']), fitters, saved=saved)
    assert results['inter'].is_fitted


def test_a_state_that_cannot_be_written_is_no_end(maps, tmp_path):
    (tmp_path / 'file').write_text('')
    saved = SavedState(tmp_path / 'file', 'mine', interval=0)
    with pytest.warns(UserWarning, match='could not be saved'):
        results = run_fitters(Stream(maps, ['penult']), {'penult': CentroidFitter(7)}, saved=saved)
    assert results['penult'].is_fitted


def test_lost_projected_features_are_an_error(maps, tmp_path):
    number = len(maps.batches(25))
    fitters = {'inter': make_fitters(tmp_path, 1 << 20, 0)['inter']}
    saved = SavedState(tmp_path, 'mine', interval=0)
    with pytest.raises(Interrupted):
        stream = Stream(maps, ['inter'], number + 3)
        run_fitters(stream, fitters, saved=saved)
    (tmp_path / 'inter.bin').write_bytes(b'short')
    fitters = {'inter': make_fitters(tmp_path, 1 << 20, 0)['inter']}
    with pytest.raises(SavedStateError, match='inter.bin should hold .* shorter'):
        run_fitters(Stream(maps, ['inter']), fitters, saved=saved)
    fitters = {'inter': make_fitters(tmp_path, 1 << 20, 0)['inter']}
    assert saved.resume(fitters) == Point()


@pytest.mark.parametrize('pass_index', [0, 1])
def test_the_end_of_a_pass_is_saved_before_it_is_worked_on(maps, tmp_path, monkeypatch, pass_index):
    finish = SubclassFitter.finish_pass

    def interrupted(self, index):
        if index == pass_index:
            raise Interrupted
        finish(self, index)

    monkeypatch.setattr(SubclassFitter, 'finish_pass', interrupted)
    saved = SavedState(tmp_path, 'mine', interval=3600)
    with pytest.raises(Interrupted):
        fitters = {'inter': make_fitters(tmp_path, 1 << 20, 0)['inter']}
        run_fitters(Stream(maps, ['inter']), fitters, saved=saved)
    monkeypatch.undo()
    fitters = {'inter': make_fitters(tmp_path, 1 << 20, 0)['inter']}
    assert saved.resume(fitters) == Point(pass_index, len(maps.batches(25)))
    if pass_index == 0:
        # The disk is checked for all positions, also those before the interruption.
        asked = []
        monkeypatch.setattr(
            projected_features, '_check_space', lambda folder, size: asked.append(size)
        )
        fitters['inter'].finish_pass(0)
        length = len(fitters['inter'].state()['projected']['offset'])
        assert asked == [maps.features[:, 0].numel() * (4 * length + 4)]
        fitters['inter'].close()
