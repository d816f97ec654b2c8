"""What to say about an error in the code of a host library, which a config has led there."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path
from types import FrameType

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, TestLoop, ValLoop

import mmkdlayer

#: Packages that a config configures.
HOSTS = ('mmengine', 'mmpretrain', 'mmrazor', 'mmcv', 'torch.utils.data')
#: Which data loader the loops of mmengine read.
LOADERS = {
    TestLoop: 'test_dataloader',
    ValLoop: 'val_dataloader',
    (EpochBasedTrainLoop, IterBasedTrainLoop): 'train_dataloader',
}
# torch puts this and a traceback before the message of an error in a data loader's worker.
WORKER_PREFIX = re.compile(r'^Caught (\w+) in DataLoader worker .*\n(?:\w+\.)*\1: ', re.S)
_OURS = (str(Path(mmkdlayer.__file__).parent), str(Path(__file__).parents[1]))
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ('stdlib', 'purelib', 'platlib'))
_LONGEST = 500


def explain_host_error(error: Exception) -> str | None:
    """What to say about an error that a host raised before the first step of a training was done.

    It is the config's then, as a rule. None for others: of this package, of classes of the user, and in
    the middle of a training.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    place = _place_in_host(frames)
    if place is None or _has_trained(frames):
        return None
    caller = place.f_locals.get('self')
    name = f'{type(caller).__name__}.' if caller is not None else ''
    count = place.f_code.co_argcount
    given = {key: place.f_locals.get(key) for key in place.f_code.co_varnames[:count]}
    plain = [f'{k}={v!r}' for k, v in given.items() if isinstance(v, (bool, int, float, str))]
    text = ' '.join(WORKER_PREFIX.sub('', str(error)).split())[:_LONGEST]
    loader = loader_of(error)
    return (
        f'{place.f_globals["__name__"].split(".")[0]} can not continue with what the config gives it'
        f'{f", for {loader}" if loader else ""}: {type(error).__name__}: {text} (in '
        f'{name}{place.f_code.co_name}({", ".join(plain)[:_LONGEST]})). Correct the entry of the config '
        'that this is about; --debug shows where it failed.'
    )


def _place_in_host(frames: list[FrameType]) -> FrameType | None:
    """The innermost function of a host, if only libraries that it called are within it."""
    for frame in reversed(frames):
        if f'{frame.f_globals.get("__name__")}.'.startswith(tuple(f'{host}.' for host in HOSTS)):
            return frame
        file = frame.f_code.co_filename
        if file.startswith(_OURS) or file.endswith('.py') and not file.startswith(_LIBRARIES):
            return None
    return None


def _has_trained(frames: list[FrameType]) -> bool:
    loops = [frame.f_locals.get('self') for frame in frames]
    kinds = (EpochBasedTrainLoop, IterBasedTrainLoop)
    return any(isinstance(loop, kinds) and getattr(loop, '_iter', 0) > 0 for loop in loops)


def loader_of(error: BaseException) -> str:
    """The name of the data loader that was being built or read when an error was raised; else empty."""
    loop = found = ''
    for frame, _ in traceback.walk_tb(error.__traceback__):
        caller, module = frame.f_locals.get('self'), str(frame.f_globals.get('__name__'))
        loop = next((name for kinds, name in LOADERS.items() if isinstance(caller, kinds)), loop)
        if frame.f_code.co_name == 'build_dataloader' or module.startswith('torch.utils.data.'):
            found = loop
    return found
