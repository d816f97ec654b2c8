"""What is in a work dir whenever a training is killed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from command_line import load_tool
from line_training import line_runner
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.fileio import get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from cli.resuming import find_checkpoint
from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.engine.hooks import PreemptionHook
from mmkdlayer.engine.saving import KeepingCheckpointHook, WholeFileBackend
from mmkdlayer.engine.signals import WATCH

EPOCHS = 3
CHECKPOINTS = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='acc')


class Rising(BaseMetric):
    """Better with each validation."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0.0

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        self.value += 1
        return dict(acc=self.value, top=self.value)


class OwnCheckpointHook(CheckpointHook):
    """Somebody's own."""


class Killed(BaseException):
    """In the place of a signal that no process survives."""


#: Called with the path of each file that is about to be opened for writing, renamed or removed.
watcher: list[Callable[[str], None]] = []


def audit(event: str, arguments: tuple) -> None:
    if watcher and event in ('open', 'os.rename', 'os.remove'):
        reads = event == 'open' and (arguments[1] == 'r' or arguments[1] == 'rb')
        if not reads and isinstance(arguments[0], str):
            watcher[0](arguments[0])


sys.addaudithook(audit)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr('mmengine.runner.runner.get_git_hash', str)  # starts a program
    yield
    watcher.clear()
    WATCH.stop()
    WATCH.deferring = False


def make_runner(
    work: Path,
    own: bool = True,
    resume_from: str | None = None,
    epochs: int = EPOCHS,
    **options: Any,
) -> Runner:
    options = dict(CHECKPOINTS, **options)
    return line_runner(
        work,
        val=True,
        train_cfg=dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=epochs),
        val_evaluator=Evaluator([Rising()]),
        default_hooks=dict(checkpoint=options, logger=None),
        custom_hooks=[PreemptionHook(signals=())] if own else [],
        loader=dict(batch_size=16),
        resume=resume_from is not None,
        load_from=resume_from,
    )


def names(work: Path) -> list[str]:
    return sorted(file.name for file in work.iterdir() if file.is_file() and file.suffix != '.py')


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(max_keep_ckpts=2, published_keys=['meta', 'state_dict']),
        dict(by_epoch=False),
        dict(filename_tmpl='latest.pth'),
        dict(save_best=['acc'], rule='less', save_optimizer=False),
    ],
    ids=str,
)
def test_the_result_is_that_of_mmengine(options: dict, tmp_path: Path) -> None:
    found = []
    for own in (False, True):
        work = tmp_path / f'own {own}'
        make_runner(work, own, **options).train()
        checkpoint = read_checkpoint((work / 'last_checkpoint').read_text())
        info = checkpoint['message_hub']['runtime_info']
        kept = info['keep_ckpt_ids'][-options.get('max_keep_ckpts', 1) :]
        facts = (
            kept,
            info['last_ckpt'],
            info['best_ckpt'],
            sorted(checkpoint),
            checkpoint['meta']['epoch'],
        )
        text = str(facts).replace(str(work), '')
        found.append((text, [name.partition('-')[0] for name in names(work)]))
    if options.get('filename_tmpl') == 'latest.pth':  # which mmengine removes
        assert 'latest.pth' in found[1][1]
        return
    assert found[0] == found[1]


def kill_at(work: Path, number: int) -> bool:
    """Train until an operation on a file of the work dir, counted from 0; False if there is none."""
    count = -1

    def watch(path: str) -> None:
        nonlocal count
        if Path(path).parent == work:
            count += 1
            if count >= number:
                raise Killed

    runner = make_runner(work, epochs=2)
    watcher[:] = [watch]
    try:
        runner.train()
    except Killed:
        return True
    finally:
        watcher.clear()
        WATCH.stop()
    return False


def test_whenever_it_is_killed_it_can_be_resumed(tmp_path: Path) -> None:
    epochs, number = [], 0
    while kill_at(work := tmp_path / str(number), number):
        path, notice = find_checkpoint(work)
        epoch = 0
        if path is not None:
            checkpoint = read_checkpoint(path)
            epoch = checkpoint['meta']['epoch']
            best = checkpoint['message_hub']['runtime_info'].get('best_ckpt')
            assert best is None or read_checkpoint(best)['state_dict']
            assert epoch > 1 or notice == '' or 'there is no last_checkpoint' in notice
        if epoch > 1:
            assert list(work.glob('best_acc_*.pth'))
        epochs.append(epoch)
        number += 1
    assert epochs == sorted(epochs) and set(epochs) == {0, 1, 2}


def test_what_a_killed_process_left_goes_when_it_is_resumed(tmp_path: Path) -> None:
    whole, work = tmp_path / 'whole', tmp_path / 'work'
    make_runner(whole).train()

    def watch(path: str) -> None:  # epoch_2.pth and its name are there, epoch_1.pth is too
        if path == str(work / 'epoch_1.pth') and (work / 'epoch_2.pth').exists():
            raise Killed

    runner = make_runner(work)
    watcher[:] = [watch]
    with pytest.raises(Killed):
        runner.train()
    watcher.clear()
    (work / '.interrupted.partial-abcd1234.pth').write_text('half')
    (work / 'interrupted.pth').write_text('of an earlier interruption')
    assert {'epoch_1.pth', 'epoch_2.pth'} <= set(names(work))
    path, notice = find_checkpoint(work)
    assert (path, notice) == (str(work / 'epoch_2.pth'), '')
    make_runner(work, resume_from=path).train()
    assert [name for name in names(work) if 'best' not in name] == [
        name for name in names(whole) if 'best' not in name
    ]


@pytest.mark.parametrize('best', ['acc', ['acc', 'top']], ids=str)
def test_what_was_the_best_goes_when_it_is_resumed(best: str | list, tmp_path: Path) -> None:
    def watch(path: str) -> None:  # the new one is there, and the old one about to be removed
        if path == str(tmp_path / 'best_acc_epoch_1.pth') and any(tmp_path.glob('best_*2.pth')):
            raise Killed

    runner = make_runner(tmp_path, save_best=best)
    watcher[:] = [watch]
    with pytest.raises(Killed):
        runner.train()
    watcher.clear()
    assert (tmp_path / 'best_acc_epoch_1.pth').exists()
    other = tmp_path / 'best_acc_epoch_9.pth'
    other.write_text("somebody's own")
    runner = make_runner(tmp_path, resume_from=str(tmp_path / 'epoch_2.pth'), save_best=best)
    runner.train()
    left = {path.name for path in tmp_path.glob('best_*')} - {other.name}
    assert left == {f'best_{name}_epoch_2.pth' for name in ([best] if best == 'acc' else best)}
    assert other.exists()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, data: bytes) -> int:
        if len(data) > 100 and (tmp_path / 'epoch_1.pth').exists():
            raise OSError(28, 'No space left on device')
        return usual(path, data)

    usual = Path.write_bytes
    monkeypatch.setattr(Path, 'write_bytes', write)
    with pytest.raises(OSError, match=r'No space left.*\.pth'):
        make_runner(tmp_path, save_best=None).train()
    assert find_checkpoint(tmp_path) == (str(tmp_path / 'epoch_1.pth'), '')
    assert not list(tmp_path.glob('.*'))


def test_another_folder_for_checkpoints(tmp_path: Path) -> None:
    folder, work = tmp_path / 'checkpoints', tmp_path / 'work'
    (folder / 'work').mkdir(parents=True)
    (folder / 'work' / '.epoch_1.partial-abcd1234.pth').write_text('half')
    make_runner(work, out_dir=str(folder)).train()
    assert names(folder / 'work') == ['best_acc_epoch_3.pth', 'epoch_3.pth']
    assert find_checkpoint(work) == (str(folder / 'work' / 'epoch_3.pth'), '')
    (work / 'last_checkpoint').write_text('')
    cfg = Config(dict(work_dir=str(work), resume=True, load_from=None))
    cfg.default_hooks = dict(checkpoint=dict(out_dir=str(folder)))
    notice = load_tool('train').choose_checkpoint(cfg)
    assert cfg.load_from == str(folder / 'work' / 'epoch_3.pth')
    assert 'last_checkpoint is empty' in notice


@pytest.mark.parametrize('best', ['acc', ['acc', 'top']])
def test_the_best_one_of_another_training_stays(best: Any, tmp_path: Path) -> None:
    first, second, moved = (tmp_path / name for name in ('first', 'second', 'moved'))
    options: dict = dict(save_best=best, rule='greater')
    make_runner(first, epochs=2, **options).train()
    start, before = str(first / 'epoch_2.pth'), names(first)
    shutil.copytree(first, moved)
    # Its metric begins anew, so the third and later are better.
    make_runner(second, resume_from=start, epochs=5, **options).train()
    assert names(first) == before and 'best_acc_epoch_2.pth' in before
    assert 'best_acc_epoch_5.pth' in names(second)
    make_runner(moved, resume_from=str(moved / 'epoch_2.pth'), epochs=5, **options).train()
    found = [name for name in names(moved) if 'best' in name]
    assert found == ['best_acc_epoch_5.pth', 'best_top_epoch_5.pth'][: len(found)]
    assert len(found) == (1 if best == 'acc' else 2)
    assert names(first) == before


def test_a_new_training_where_there_was_one(tmp_path: Path) -> None:
    cfg = Config(dict(work_dir=str(tmp_path), resume=False, load_from='start.pth'))
    choose = load_tool('train').choose_checkpoint
    (tmp_path / 'start.pth').touch()
    assert choose(cfg) == ''
    (tmp_path / 'epoch_2.pth').touch()
    assert 'an earlier training (epoch_2.pth). This one begins anew' in choose(cfg)
    assert cfg.load_from == 'start.pth'
    cfg.resume = True
    assert choose(cfg) == ''


def test_only_mmengines_own_hook_is_changed(tmp_path: Path) -> None:
    runner = make_runner(tmp_path)
    runner.register_hook(OwnCheckpointHook())
    PreemptionHook(signals=()).before_run(runner)
    kinds = [type(hook) for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    assert sorted(kinds, key=str) == sorted([KeepingCheckpointHook, OwnCheckpointHook], key=str)


def test_only_plain_files_are_replaced(tmp_path: Path) -> None:
    backend = get_file_backend(str(tmp_path))
    assert type(backend) is WholeFileBackend
    backend.put(b'text', tmp_path / 'folder' / 'file')
    assert (tmp_path / 'folder' / 'file').read_bytes() == b'text'
    (tmp_path / 'link').symlink_to(tmp_path / 'folder' / 'file')
    backend.put(b'other', tmp_path / 'link')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'folder' / 'file').read_bytes() == b'other'
    backend.put(b'nothing', '/dev/null')
    assert get_file_backend(backend_args=dict(backend='http')).name == 'HTTPBackend'
