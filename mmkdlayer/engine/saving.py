"""Checkpoints that appear whole, and go only when a later one is in their place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from mmkdlayer.atomic import remove_leftovers, replacing

#: In a work dir: the name of the checkpoint that ``--resume`` takes.
LAST_CHECKPOINT = 'last_checkpoint'
#: The checkpoint of an interruption in the work dir; it goes when a later one is there.
INTERRUPTED = 'interrupted.pth'
#: In a message hub: the best checkpoints that are not the best any more, and are to be removed.
OUTDATED = 'outdated_best_ckpts'


@register_backend('local', prefixes='', force=True)
class WholeFileBackend(LocalBackend):
    """mmengine's files on local disks, where what is written appears whole or not at all.

    All of mmengine's checkpoints go through it, but for those on other backends.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file; what was there before stays until they are all written."""
        path = Path(filepath)
        if path.is_symlink():
            super().put(obj, filepath)  # written to, not replaced
            return
        with replacing(path) as partial:
            partial.write_bytes(obj)


def keep_until_replaced(runner: Runner) -> None:
    """Let mmengine's CheckpointHooks of a runner remove old checkpoints after the new one is there.

    They remove them before, so that a process that is killed between leaves nothing to resume from. A
    subclass that others have written decides for itself.
    """
    for hook in runner.hooks:
        if type(hook) is CheckpointHook:
            hook.__class__ = KeepingCheckpointHook


def name_last_checkpoint(work_dir: str | Path, path: str | Path) -> None:
    """Let ``--resume`` take a checkpoint."""
    with replacing(Path(work_dir, LAST_CHECKPOINT)) as partial:
        partial.write_text(str(path), encoding='utf-8')


class KeepingCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook in another order: write, name it in last_checkpoint, then remove."""

    file_backend: Any
    last_ckpt: Any

    def before_train(self, runner: Any) -> None:
        """As in CheckpointHook; remove what a killed process left half written in the folder."""
        super().before_train(runner)
        # A checkpoint of another folder names the best one there, which is not ours to remove.
        self.best_ckpt_path = self._here(getattr(self, 'best_ckpt_path', None))
        several: dict[str, str | None] = getattr(self, 'best_ckpt_path_dict', {})
        several.update({name: self._here(path) for name, path in several.items()})
        # The one that is resumed from is written again after a validation that is the best so far.
        last = runner.message_hub.runtime_info.get('last_ckpt') if runner._resume else None
        self.last_ckpt = last if last is not None and last == self._here(last) else None
        outdated = runner.message_hub.runtime_info.get(OUTDATED, []) if runner._resume else []
        if is_main_process() and isinstance(self.file_backend, LocalBackend):
            remove_leftovers(self.out_dir)
            self._remove([path for path in outdated if path == self._here(path)], but=self._best())

    def _here(self, path: Any) -> str | None:
        """A file of the same name among these checkpoints."""
        if not isinstance(path, str):
            return None
        return self.file_backend.join_path(self.out_dir, os.path.basename(path))

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        outdated: list[int] = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            # All are saved with it: if the process is killed now, the next one removes the outdated.
            ids = [*self.keep_ckpt_ids, step]
            runner.message_hub.update_info('keep_ckpt_ids', ids)
            outdated = ids[: -self.max_keep_ckpts]
            self.keep_ckpt_ids.append(step)  # which drops them
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            name_last_checkpoint(runner.work_dir, self.last_ckpt)
            Path(runner.work_dir, INTERRUPTED).unlink(missing_ok=True)
            names = (self.filename_tmpl.format(one) for one in outdated)
            paths = [self.file_backend.join_path(self.out_dir, one) for one in names]
            self._remove(paths, but=[self.last_ckpt])

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        backend = self.file_backend
        self.file_backend = later = _RemovesLater(backend, runner.message_hub)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        self._remove(later.outdated, but=self._best())

    def _best(self) -> list[str | None]:
        several: dict[str, str | None] = getattr(self, 'best_ckpt_path_dict', {})
        return [getattr(self, 'best_ckpt_path', None), *several.values()]

    def _remove(self, paths: list[str], but: list[str | None]) -> None:
        for path in paths:
            if path not in but and self.file_backend.isfile(path):
                self.file_backend.remove(path)


class _RemovesLater:
    """A file backend that notes what is to be removed, in checkpoints too.

    If the process is killed before it is removed, the next one does it.
    """

    def __init__(self, backend: Any, message_hub: MessageHub) -> None:
        self._backend = backend
        self._message_hub = message_hub
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Note a file."""
        self.outdated.append(path)
        self._message_hub.update_info(OUTDATED, list(self.outdated))
