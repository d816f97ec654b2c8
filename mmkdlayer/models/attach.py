"""Attaches KD layers to a network without touching its code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.model import ModuleDict
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError

from .kd_layer_options import KDLayerOptions, parse_kd_layers
from .tokens import TokenLayoutFinder, choose_output, replace_output


def attach_kd_layers(student: nn.Module, kd_layers: Mapping[str, Any]) -> None:
    """Make KD layers part of a network: each replaces the output of one of its modules.

    The layers live once, in ``student.kd_layers`` (a ModuleDict), so initialisation, optimisers, SyncBN
    conversion, DDP, EMA and checkpoints see them; one that is replaced
    there takes effect at once, and so does the deletion of one that nothing supervises.
    Forward hooks run in the order in which they were registered: a recorder that is attached to the
    same module afterwards sees the layer's output.

    Args:
        student: The network; modified in place.
        kd_layers: For each name, a :class:`KDLayerOptions` or a dict of its keys, without those of a
            teacher.

    Raises:
        ConfigError: A declaration is wrong, a name is taken, a module does not exist, is shared, or
            already carries a KD layer.
    """
    options: dict[str, KDLayerOptions] = {
        name: given
        if isinstance(given, KDLayerOptions)
        else parse_kd_layers({name: given}, 'attach_kd_layers', with_teacher=False)[name]
        for name, given in kd_layers.items()
    }
    if not options:
        return
    layers = getattr(student, 'kd_layers', ModuleDict())
    if not isinstance(layers, nn.ModuleDict):
        raise ConfigError(
            f'The student ({type(student).__name__}) has a {type(layers).__name__} called "kd_layers", '
            'which is the name that its KD layers need. Rename it.'
        )
    hooks = [_KDLayerHook(layers, name, option) for name, option in options.items()]
    targets: list[nn.Module] = []
    for hook in hooks:
        targets.append(_find_place(student, hook, targets))
    layers.update({name: option.build_layer() for name, option in options.items()})
    student.kd_layers = layers
    for hook, module in zip(hooks, targets):
        hook.attach(student, module)
    check = _CallCheck(hooks)
    student.register_forward_pre_hook(check.start)
    student.register_forward_hook(check.end, always_call=True)


def _find_place(student: nn.Module, hook: _KDLayerHook, others: list[nn.Module]) -> nn.Module:
    """The module that a layer goes to, if it can go there."""
    module = find_module(student, hook.module_name, f'{hook.key}: the student')
    aliases = [name for name, m in student.named_modules(remove_duplicate=False) if m is module]
    if len(aliases) > 1:
        raise ConfigError(
            f'{hook.key}: module "{hook.module_name}" is shared, it is also '
            f'{", ".join(repr(name) for name in aliases if name != hook.module_name)}. A KD layer '
            'needs a module that stands in one place.'
        )
    if hook.name in hook.layers:
        raise ConfigError(f'The student already has a KD layer "{hook.name}". Choose another name.')
    taken = any(isinstance(other, _KDLayerHook) for other in module._forward_hooks.values())
    if taken or module in others:
        raise ConfigError(f'{hook.key}: module "{hook.module_name}" already carries a KD layer.')
    return module


class _KDLayerHook:
    """Forward hook that passes a module's output through a KD layer.

    It is a plain object that looks the layer up, not a closure and not the owner of the layer: so a
    deep copy of the student runs the copied layer, and the student pickles.
    """

    def __init__(self, layers: nn.ModuleDict, name: str, options: KDLayerOptions) -> None:
        self.layers, self.name = layers, name
        self.module_name, self.output_index = options.module, options.output_index
        self.extra_tokens, self.grid = options.extra_tokens, options.grid
        self.key = f'kd_layers.{name}'
        self.place = f'{self.key}: module "{self.module_name}"'
        self.calls = 0
        self.counting = False

    def attach(self, student: nn.Module, module: nn.Module) -> None:
        """Register this on the module, and what finds the layout of its tokens on the student."""
        self.finder = TokenLayoutFinder(
            self.place, student, self.module_name, self.extra_tokens, self.grid
        )
        module.register_forward_hook(self)

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        self.calls += 1
        if self.name not in self.layers:  # taken out again
            return output
        if self.counting and self.calls > 1:
            raise ConfigError(
                f'{self.place} runs more than once in a forward pass, so it is not one place. Name a '
                'module that runs once, such as the block around it.'
            )
        x = choose_output(output, self.output_index, self.place, f'{self.key}.output_index')
        return replace_output(output, x, self._run_layer(x, output))

    def _run_layer(self, x: Any, output: Any) -> Tensor:
        layer = self.layers[self.name]
        channels = getattr(layer, 'in_channels', None)
        advice = 'Name a module that returns a feature map, or tokens (N, L, C).'
        found: Any = type(x).__name__
        if isinstance(x, Tensor):
            found = tuple(x.shape)
            if x.dim() == 2:
                advice = (
                    'One vector for each image, such as a class token, has no positions. Name the block '
                    'before it.'
                )
            elif x.dim() in (3, 4):
                there = x.size(1 if x.dim() == 4 else 2)
                if x.dim() == 4 and there != channels and x.size(3) == channels:
                    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (N, H, W, C)
                if channels is None or there == channels:
                    if x.dim() == 4:
                        return layer(x)
                    layout = self.finder.layout(x, output)
                    return layout.to_tokens(layer(layout.to_map(x)), x)
                advice = f'Set {self.key}.in_channels={there}.'
        raise ConfigError(
            f'{self.key}: expected a feature map (N, C={channels}, H, W), or tokens (N, L, C), from '
            f'module "{self.module_name}", but it returns {found}. {advice}'
        )


class _CallCheck:
    """Hooks of the student's forward pass: every place must run, and once.

    Counting stops at the end, because activation checkpointing runs modules again in the backward pass.
    A forward pass that failed is counted no further either (torch calls the hook with no output then).
    """

    def __init__(self, hooks: list[_KDLayerHook]) -> None:
        self.hooks = hooks

    def start(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook: start to count."""
        for hook in self.hooks:
            hook.calls, hook.counting = 0, True

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook: every place must have run."""
        for hook in self.hooks:
            hook.counting = False
            hook.finder.forget()
        for hook in self.hooks:
            if hook.calls == 0 and output is not None:
                raise ConfigError(
                    f'{hook.key}: module "{hook.module_name}" did not run in the forward pass (it '
                    'is not used, or used without being called, or was replaced, as SyncBN '
                    'conversion replaces batch norms), so its KD layer would have no effect. Name '
                    'a module that is called, such as the block around it.'
                )


def find_module(model: nn.Module, name: str, role: str) -> nn.Module:
    """The submodule with a dotted name.

    Raises:
        ConfigError: There is none. The message begins with ``role``, such as "kd_layers.inter: the
            student", and lists near matches.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules or not name:
        raise ConfigError(
            f'{role} ({type(model).__name__}) has no module "{name}". '
            f'{suggest_names(name, modules)}'
        )
    return modules[name]


def suggest_names(name: str, names: Iterable[str]) -> str:
    """A sentence that lists the names nearest to a wrong one."""
    names = [candidate for candidate in names if candidate]
    near = get_close_matches(name, names, n=5, cutoff=0.4)
    if near:
        return f'Near matches: {", ".join(near)}.'
    return f'It has: {", ".join(names[:10])}{", ..." if len(names) > 10 else ""}.'
