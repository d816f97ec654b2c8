"""Puts KD layers into a network's forward pass without touching its code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Union

from mmengine.model import ModuleDict
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError

Place = Union[str, Mapping[str, Any]]


class _Splice:
    """Forward hook that passes a module's output through a KD layer.

    It is a plain object that refers to the layer, not a closure and not the owner of the layer:
    so a deep copy of the student splices the copied layer, and the student pickles.
    """

    def __init__(self, layer: nn.Module, module_name: str, output_index: int | None) -> None:
        self.layer = layer
        self.module_name = module_name
        self.output_index = output_index
        self.calls = 0
        self.counting = False

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        self.calls += 1
        if self.counting and self.calls > 1:
            raise ConfigError(
                f'KD layer: module "{self.module_name}" runs more than once in a forward pass, so '
                'it is not one place. Name a module that runs once, such as the block around it.'
            )
        if self.output_index is None:
            if isinstance(output, Tensor):
                return self.layer(output)
            if isinstance(output, (tuple, list)):
                advice = f'Choose one with dict(module="{self.module_name}", output_index=...).'
            else:
                advice = 'Name a module that returns a feature map.'
            raise ConfigError(
                f'KD layer: module "{self.module_name}" returns {_describe(output)}, not a tensor. '
                f'{advice}'
            )
        if not isinstance(output, (tuple, list)) or not (
            -len(output) <= self.output_index < len(output)
        ):
            raise ConfigError(
                f'KD layer: output_index is {self.output_index}, but module "{self.module_name}" '
                f'returns {_describe(output)}.'
            )
        outputs = list(output)
        outputs[self.output_index] = self.layer(outputs[self.output_index])
        named = hasattr(output, '_fields')  # a namedtuple
        return type(output)(*outputs) if named else type(output)(outputs)


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return 'one tensor'
    size = f' of {len(output)}' if isinstance(output, (tuple, list)) else ''
    return f'a {type(output).__name__}{size}'


class _StartForward:
    """Forward pre-hook of the student: starts to count how often each place runs."""

    def __init__(self, splices: list[_Splice]) -> None:
        self.splices = splices

    def __call__(self, module: nn.Module, args: Any) -> None:
        for splice in self.splices:
            splice.calls, splice.counting = 0, True


class _EndForward:
    """Forward hook of the student: every place must have run.

    Counting stops here, because activation checkpointing runs modules again in the backward pass. A
    forward pass that failed is counted no further either (torch calls this with no output then).
    """

    def __init__(self, splices: list[_Splice]) -> None:
        self.splices = splices

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        for splice in self.splices:
            splice.counting = False
        for splice in self.splices:
            if splice.calls == 0 and output is not None:
                raise ConfigError(
                    f'KD layer: module "{splice.module_name}" did not run in the forward pass (it '
                    'is not used, or used without being called, or was replaced, as SyncBN '
                    'conversion replaces batch norms), so its KD layer would have no effect. Name '
                    'a module that is called, such as the block around it.'
                )


def suggest_names(name: str, names: Iterable[str]) -> str:
    """A sentence that lists the names nearest to a wrong one."""
    names = [candidate for candidate in names if candidate]
    near = get_close_matches(name, names, n=5, cutoff=0.4)
    if near:
        return f'Near matches: {", ".join(near)}.'
    return f'It has: {", ".join(names[:10])}{", ..." if len(names) > 10 else ""}.'


def find_module(model: nn.Module, name: str, role: str) -> nn.Module:
    """The submodule called ``name``.

    Args:
        model: Where to look.
        name: Dotted name, as in ``model.named_modules()``.
        role: What the model is, for the message ("student", "teacher").

    Raises:
        ConfigError: There is no such module (the message lists near matches), or it is shared under
            several names.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules or not name:
        raise ConfigError(
            f'The {role} ({type(model).__name__}) has no module "{name}". '
            f'{suggest_names(name, modules)}'
        )
    return modules[name]


def parse_place(layer_name: str, place: Place) -> tuple[str, int | None]:
    """Read where a KD layer goes: ``'backbone.layer4'`` or ``dict(module=..., output_index=...)``.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(place, str):
        return place, None
    if (
        isinstance(place, Mapping)
        and isinstance(place.get('module'), str)
        and set(place) <= {'module', 'output_index'}
        and isinstance(place.get('output_index', 0), int)
    ):
        return place['module'], place.get('output_index')
    raise ConfigError(
        f'KD layer "{layer_name}": its place must be the name of a student module, such as '
        f'"backbone.layer4", or dict(module=name, output_index=int), but got {place!r}.'
    )


def attach_kd_layers(
    student: nn.Module, layers: Mapping[str, nn.Module], places: Mapping[str, Place]
) -> None:
    """Make KD layers part of a network: each replaces the output of one of its modules.

    The layers live once, in ``student.kd_layers`` (a ModuleDict), so initialisation, optimisers, SyncBN
    conversion, DDP, EMA and checkpoints see them. Forward hooks run in the order in which they were
    registered: a recorder that is attached to the same module afterwards sees the layer's output.

    Args:
        student: The network; modified in place.
        layers: KD layers by name.
        places: For each name, where its layer goes (see :func:`parse_place`).

    Raises:
        ConfigError: Names differ between ``layers`` and ``places``, a name is taken, a module does not
            exist, is shared, or already carries a KD layer.
    """
    if set(layers) != set(places):
        raise ConfigError(
            f'KD layers: there are layers {sorted(layers)} and places for {sorted(places)}; each '
            'layer needs one place.'
        )
    owned = getattr(student, 'kd_layers', None)
    if owned is None:
        owned = ModuleDict()
    if not isinstance(owned, nn.ModuleDict):
        raise ConfigError(
            f'The student ({type(student).__name__}) has a {type(owned).__name__} called "kd_layers", '
            'which is the name that its KD layers need. Rename it.'
        )
    splices: list[_Splice] = []
    targets: list[nn.Module] = []
    for name, layer in layers.items():
        module_name, output_index = parse_place(name, places[name])
        module = find_module(student, module_name, 'student')
        aliases = [n for n, m in student.named_modules(remove_duplicate=False) if m is module]
        if len(aliases) > 1:
            raise ConfigError(
                f'KD layer "{name}": module "{module_name}" is shared, it is also '
                f'{", ".join(repr(a) for a in aliases if a != module_name)}. A KD layer needs a '
                'module that stands in one place.'
            )
        if name in owned:
            raise ConfigError(f'The student already has a KD layer "{name}". Choose another name.')
        taken = [h for h in module._forward_hooks.values() if isinstance(h, _Splice)]
        if taken or module in targets:
            raise ConfigError(
                f'KD layer "{name}": module "{module_name}" already carries a KD layer.'
            )
        splices.append(_Splice(layer, module_name, output_index))
        targets.append(module)
    if not splices:
        return
    for (name, layer), splice, module in zip(layers.items(), splices, targets):
        owned[name] = layer
        module.register_forward_hook(splice)
    student.kd_layers = owned
    student.register_forward_pre_hook(_StartForward(splices))
    student.register_forward_hook(_EndForward(splices), always_call=True)
