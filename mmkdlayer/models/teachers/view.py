"""The same view in a teacher's own normalisation: its batch is made of the student's, on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError


@dataclass(frozen=True)
class Normalisation:
    """What images are: ``(pixel - mean) / std``, with channels reversed or as they were loaded."""

    mean: tuple[float, ...]  #: of each channel, for pixels from 0 to 255
    std: tuple[float, ...]  #: of each channel
    reverses: bool  #: whether BGR is made RGB (or RGB BGR)

    @classmethod
    def of(cls, preprocessor: nn.Module | None) -> Normalisation:
        """That of a data preprocessor of mmengine or mmpretrain; without ``mean`` pixels as they are."""
        constants = {}
        for name, default in (('mean', 0.0), ('std', 1.0)):
            value = getattr(preprocessor, name, None)
            found = value.flatten().tolist() if isinstance(value, Tensor) else [default]
            constants[name] = tuple(found)
        names = ('to_rgb', '_channel_conversion')
        return cls(**constants, reverses=any(getattr(preprocessor, name, False) for name in names))


class TeacherView:
    """Forward pre-hook of a teacher that states a normalisation of its own.

    It undoes the student's normalisation and applies the teacher's: one multiplication and one addition.
    Nothing is done before :meth:`connect` was called, and nothing where both are the same. Images that
    the teacher's own data preprocessor has made (``val_step``) are left alone.

    A plain object, so that a deep copy of the teacher has one of its own and the teacher pickles.

    Args:
        own: The data preprocessor that the teacher states.
        needed: Whether training without :meth:`connect` is an error: the teacher's images are never
            simply the student's.
    """

    def __init__(self, own: nn.Module, needed: bool = False) -> None:
        self.own, self.needed = own, needed
        self.wanted = Normalisation.of(own)
        self.given: Normalisation | None = None
        self.used: nn.Module | None = None
        self._factors: dict[Any, tuple[Tensor, Tensor]] = {}

    @property
    def converts(self) -> bool:
        """Whether the teacher's images are others than the student's."""
        return self.given is not None and self.given != self.wanted

    def connect(self, used: nn.Module | None) -> None:
        """Name the data preprocessor that makes the student's batch; None takes it back.

        Raises:
            ConfigError: The student's images have several channels, the teacher's one.
        """
        self.used, self._factors = used, {}
        self.wanted = Normalisation.of(self.own)
        self.given = Normalisation.of(used) if used is not None else None
        grey = hasattr(self.own, 'mean') and len(self.wanted.mean) == 1
        if grey and self.given and len(self.given.mean) > 1:
            raise ConfigError(
                f'The teacher is for images of one channel (mean={list(self.wanted.mean)}), but those '
                f'of the student have {len(self.given.mean)} (mean={list(self.given.mean)}). Use a '
                'teacher for images of these channels.'
            )

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """The pre-hook: the teacher's arguments with the converted batch."""
        mode = kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
        if self.needed and self.given is None and mode == 'loss':
            raise ConfigError(
                "The teacher has not been told how the student's images are normalised. A hook does it "
                'before training: add dict(type="mmkdlayer.FitDecisionsHook") to custom_hooks. In a '
                'loop of your own, call mmkdlayer.engine.connect_views(algorithm, cfg) once.'
            )
        if not self.converts:
            return None
        if mode == 'predict' and getattr(module, 'data_preprocessor', None) is not self.used:
            return None  # val_step: made by its own data preprocessor
        if args:
            return (self.convert(args[0]), *args[1:]), kwargs
        if 'inputs' in kwargs:
            return args, dict(kwargs, inputs=self.convert(kwargs['inputs']))
        return None

    def convert(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) of the student's normalisation in the teacher's.

        Raises:
            ConfigError: It is no such batch.
        """
        if not isinstance(images, Tensor) or images.dim() != 4:
            raise ConfigError(
                'The teacher has a normalisation of its own, into which batches (N, C, H, W) can be '
                f'converted, but the algorithm gives it a {type(images).__name__}. Give the teacher the '
                "data_preprocessor of the student, or take the teacher's out."
            )
        if not images.is_floating_point():
            images = images.float()
        factor, offset = self._factors_on(images)
        reverses = self.given is not None and self.given.reverses != self.wanted.reverses
        if reverses and images.size(1) == 3:
            images = images.flip(1)
        return images * factor + offset

    def _factors_on(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What images are multiplied by, and what is added: (C, 1, 1) each, kept for each device."""
        key = (images.device, images.dtype)
        if key not in self._factors:
            assert self.given is not None
            mean, std = map(_exact, (self.given.mean, self.given.std))
            if (
                self.given.reverses != self.wanted.reverses
            ):  # in the order of the teacher's channels
                mean, std = mean.flip(0), std.flip(0)
            own_mean, own_std = map(_exact, (self.wanted.mean, self.wanted.std))
            both = std / own_std, (mean - own_mean) / own_std
            factor, offset = (value.view(-1, 1, 1).to(images) for value in both)
            self._factors[key] = factor, offset
        return self._factors[key]

    def describe(self) -> dict[str, Any]:
        """For the description in a decision file."""
        return asdict(self.wanted) if self.converts else {}


def _exact(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def attach_views(teacher: nn.Module) -> None:
    """Give each of the teachers in a module, that has a data preprocessor, its view.

    It runs before all other pre-hooks, which see the teacher's own images. Called twice, the first one
    stays: mmrazor's loops put the student's data preprocessor in the place of the teacher's.
    """
    for member in members_of(teacher).values():
        own = getattr(member, 'data_preprocessor', None)
        if isinstance(own, nn.Module) and find_view(member) is None:
            view = TeacherView(own, getattr(member, 'needs_view', False))
            member.register_forward_pre_hook(view, with_kwargs=True, prepend=True)


def find_view(teacher: nn.Module) -> TeacherView | None:
    """The view that :func:`attach_views` has given a teacher."""
    hooks = teacher._forward_pre_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, TeacherView)), None)


def members_of(teacher: nn.Module) -> Mapping[str, nn.Module]:
    """The teachers by name: those of a group or a ModuleDict, or the only one."""
    if isinstance(teacher, nn.ModuleDict):
        return dict(teacher.items())
    return getattr(teacher, 'members', None) or {'': teacher}


def describe_view(teacher: nn.Module) -> dict[str, Any]:
    """What a teacher makes of the student's batch; empty where it takes it as it is."""
    view = find_view(teacher)
    found = view.describe() if view else {}
    size = getattr(teacher, 'input_size', None)
    return dict(found, input_size=list(size)) if size else found
