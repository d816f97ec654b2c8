"""Makes a training read stored decisions in the place of its teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from mmkdlayer.errors import ConfigError
from mmkdlayer.type_names import type_name

from .files import Store

#: What to do where stored decisions can not be used.
WITH_TEACHER = 'train with the teacher (without --stored, and without "stored" in the decisions)'
_HOOK = 'mmkdlayer.StoredDecisionsHook'


def use_store(cfg: Config, folder: str | None = None) -> str:
    """Let the KD layers of a training read stored decisions, where the config or ``folder`` says so.

    The teacher is replaced by nothing, the training set by one that renders the stored views again. What
    they were stays in the config, so that its file can be used again.

    Args:
        cfg: The training config; changed in place.
        folder: Of stored decisions for all KD layers; None for what the decisions state,
            ``decision=dict(..., stored=DIR)``.

    Returns:
        What to tell the user; empty where the teacher is used.

    Raises:
        ConfigError: The training needs the teacher itself; the message says what for.
    """
    take_out_store(cfg)
    decisions = dict(_decisions(cfg))
    for decision in decisions.values() if folder else ():
        decision['stored'] = folder
    stated = {name: decision.get('stored') for name, decision in decisions.items()}
    if not any(stated.values()):
        if folder:
            raise ConfigError(
                f'--stored {folder}: expected a config with KD layers that a teacher supervises '
                '(model.distiller.kd_layers with decision), but this has none. Take --stored out.'
            )
        return ''
    if len(set(stated.values())) > 1:
        listed = ', '.join(f'{name}: {place}' for name, place in stated.items())
        raise ConfigError(
            'Expected one folder of stored decisions for all KD layers, since no teacher is run, but '
            f'kd_layers.<name>.decision.stored is {listed}. Give all with --stored DIR.'
        )
    for phrase in needs_teacher(cfg):
        raise ConfigError(f'Stored decisions are read in the place of a teacher, but {phrase}.')
    store = next(iter(stated.values()))
    model, loader = cfg.model, cfg.train_dataloader
    what = {key: model.get(key) for key in ('teacher', 'teacher_ckpt')}
    if recorders := _recorders(cfg):
        what.update(_stored_logits(recorders, str(store)))
    model.teacher = ConfigDict(type='mmkdlayer.NoTeacher', **what)
    model.teacher_ckpt = None
    loader.dataset = ConfigDict(type='mmkdlayer.StoredViews', dataset=loader.dataset, store=store)
    if isinstance(loader.get('sampler'), Mapping):
        loader.sampler = ConfigDict(type='mmkdlayer.view_sampler', sampler=loader.sampler)
    # Before the hooks that read an image.
    cfg.custom_hooks = [ConfigDict(type=_HOOK), *(cfg.get('custom_hooks') or [])]
    return (
        f'The decisions stored in {store} are used: no teacher is built, loaded or run, and what the '
        'config says of it (model.teacher, teacher_ckpt, options of the teacher in model.distiller) is '
        'not read.'
    )


def take_out_store(cfg: Config, forget: bool = False) -> None:
    """Put back in a config what :func:`use_store` replaced, in place.

    ``forget`` takes ``stored`` out of the decisions too.
    """
    model, loader = cfg.get('model') or {}, cfg.get('train_dataloader') or {}
    teacher, dataset, sampler = (
        part.get(key) or {}
        for part, key in ((model, 'teacher'), (loader, 'dataset'), (loader, 'sampler'))
    )
    if _is(teacher, 'NoTeacher'):
        for key in ('teacher', 'teacher_ckpt'):  # update() would merge dicts
            model[key] = teacher.get(key)
    if _is(dataset, 'StoredViews'):
        loader['dataset'] = dataset['dataset']
    if _is(sampler, 'view_sampler'):
        loader['sampler'] = sampler['sampler']
    if cfg.get('custom_hooks'):
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if not _is(hook, _HOOK)]
    for _, decision in _decisions(cfg) if forget else ():
        decision.pop('stored', None)


def _is(value: Any, name: str) -> bool:
    return isinstance(value, Mapping) and type_name(value.get('type')) == type_name(name)


def _decisions(cfg: Config) -> Iterator[tuple[str, dict]]:
    """The configs of the decisions of KD layers, by the names of these."""
    distiller = (cfg.get('model') or {}).get('distiller') or {}
    layers = distiller.get('kd_layers') or {}
    for name, layer in layers.items() if isinstance(layers, Mapping) else ():
        decision = layer.get('decision') if isinstance(layer, Mapping) else None
        if isinstance(decision, dict):
            yield name, decision


def needs_teacher(cfg: Config) -> Iterator[str]:
    """What of a training asks for the teacher itself, or for images that it has not seen."""
    model: Any = cfg.model
    kind = type_name(model.get('type'))
    if kind != 'SingleTeacherDistill':
        yield (
            f'model.type is {kind}, which runs teachers in a way of its own. Use SingleTeacherDistill, '
            f'or {WITH_TEACHER}'
        )
    if model.get('teacher_trainable'):
        yield (
            'this one is trained (teacher_trainable=True), so its decisions change. Set '
            f'teacher_trainable=False, or {WITH_TEACHER}'
        )
    distiller = model.distiller
    if type_name(distiller.get('type')) != 'KDLayerDistiller':
        yield f'model.distiller is a {type_name(distiller.get("type"))}. Use a KDLayerDistiller'
    if any((distiller.get('distill_deliveries') or {}).values()):
        yield (
            'model.distiller.distill_deliveries hands over what the teacher computes as it runs. Take '
            f'it out, or {WITH_TEACHER}'
        )
    for place, augments in _batch_augments(cfg):
        if augments:
            yield (
                f'{place} mixes images of a batch (Mixup, CutMix, ...), and the teacher has not seen '
                f'mixed images. Take it out, or {WITH_TEACHER}'
            )


def _recorders(cfg: Config) -> dict[str, Mapping[str, Any]]:
    """The teacher's recorders that the config itself has, for losses beside those of KD layers."""
    given = cfg.model.distiller.get('teacher_recorders') or {}
    return {name: recorder for name, recorder in given.items() if recorder is not None}


def _stored_logits(recorders: Mapping[str, Mapping[str, Any]], folder: str) -> dict[str, Any]:
    """What the teacher's stand-in is told of the logits that recorders read.

    Raises:
        ConfigError: They read something else of the teacher, or no logits are stored.
        StoreError: There are no stored decisions.
    """
    logits = Store.open(folder).manifest['logits'] or {}
    sources = logits.get('sources') or []
    for name, recorder in recorders.items():
        kind = type_name(recorder.get('type')).removesuffix('Recorder')
        if kind != 'ModuleOutputs' or recorder.get('source') not in sources:
            there = f'its logits are stored ({", ".join(sources)})' if sources else 'no logits are'
            raise ConfigError(
                f'model.distiller.teacher_recorders.{name} reads the teacher as it runs '
                f'({recorder.get("source")}), but of what it computes besides decisions {there} in '
                f'{folder}. Store logits with "store_decisions --logits K"; take out losses that read '
                f'something else, with their recorders (NAME=None where inherited); or {WITH_TEACHER}.'
            )
    read = dict.fromkeys(recorder['source'] for recorder in recorders.values())
    return dict(modules=list(read), classes=logits['classes'])


def _batch_augments(cfg: Config) -> Iterator[tuple[str, Any]]:
    student = cfg.model.get('architecture') or {}
    for name, part in (
        ('data_preprocessor', cfg.get('data_preprocessor')),
        ('model.data_preprocessor', cfg.model.get('data_preprocessor')),
        ('model.architecture.data_preprocessor', student.get('data_preprocessor')),
    ):
        yield f'{name}.batch_augments', (part or {}).get('batch_augments')
    yield (
        'model.architecture.train_cfg.augments',
        (student.get('train_cfg') or {}).get('augments'),
    )
