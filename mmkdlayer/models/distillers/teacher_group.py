"""Several teachers in the place of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseModel
from mmengine.runner.checkpoint import load_state_dict
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS as MMRAZOR_MODELS
from torch import Tensor, nn

from mmkdlayer.checkpoints import read_state_dict
from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS


@MODELS.register_module()
class TeacherGroup(BaseModel):
    """Teachers that see the same images; each is read at ``<name>.<module>``.

    It stands where an algorithm of mmrazor expects its one teacher. Recorders name a module of one of
    them, ``source='a.backbone.layer4'``, so each KD layer can have a teacher of its own.

    Args:
        teachers: For each name a model or its config (with ``cfg_path`` too, as in mmrazor).
        checkpoints: For names of ``teachers``, the checkpoint to load. (``teacher_ckpt`` of the
            algorithm is one file for one teacher, so it stays unset.)

    Raises:
        ConfigError: There is no teacher, or a name can't be used.
    """

    def __init__(
        self,
        teachers: Mapping[str, dict | nn.Module],
        checkpoints: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.checkpoints = dict(checkpoints or {})
        unknown = sorted(set(self.checkpoints) - set(teachers))
        if not teachers or unknown:
            raise ConfigError(
                f'TeacherGroup: expected at least one teacher, and checkpoints of teachers that are '
                f'there, but got the teachers {sorted(teachers)} and checkpoints of {unknown} too.'
            )
        self.names = tuple(teachers)
        for name, given in teachers.items():
            if not name.isidentifier() or hasattr(self, name):
                raise ConfigError(
                    f'TeacherGroup: a teacher can not be called {name!r}, because it is no '
                    'identifier or the name of something else in a model. Choose another name.'
                )
            self.add_module(name, MMRAZOR_MODELS.build(given) if isinstance(given, dict) else given)
        for name, path in self.checkpoints.items():
            teacher: Any = self.members[name]
            load_state_dict(teacher, read_state_dict(path)[0])  # CheckWeightsHook checks the fit
            teacher._is_init = True  # what was loaded is not initialised again

    @property
    def members(self) -> dict[str, nn.Module]:
        """The teachers by name."""
        return {name: getattr(self, name) for name in self.names}

    def extract_feat(self, inputs: Tensor) -> dict[str, Any]:
        """Run backbones and necks alone (mmrazor's FpnTeacherDistill), on images (N, 3, H, W)."""
        members: dict[str, Any] = self.members
        return {name: teacher.extract_feat(inputs) for name, teacher in members.items()}

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> dict:
        """Run every teacher on images (N, 3, H, W).

        Returns:
            For mode ``tensor`` the outputs by name, for ``loss`` all losses, each with its teacher's
            name before it.

        Raises:
            ConfigError: A group is asked to predict.
        """
        if mode == 'predict':
            raise ConfigError(
                'TeacherGroup: several teachers have no one prediction. Validate the student alone: '
                'val_cfg=dict(_delete_=True) instead of SingleTeacherDistillValLoop.'
            )
        outputs = {
            name: teacher(inputs, data_samples, mode=mode) for name, teacher in self.members.items()
        }
        if mode != 'loss':
            return outputs
        losses: dict = {}
        for name, found in outputs.items():
            losses.update(add_prefix(found, name))
        return losses
