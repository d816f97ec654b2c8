"""Puts a teacher and a student together: places, checks of their maps, the model's config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS

from .places import (
    Place,
    SmallMapError,
    UnclearPlaceError,
    candidates,
    find_inter,
    find_penult,
    named_place,
)
from .probing import probe

FINDERS = dict(inter=find_inter, penult=find_penult)


def build(model: dict, role: str) -> nn.Module:
    """Build a network without weights.

    Raises:
        ConfigError: It can't be built.
    """
    try:
        return MODELS.build({'_scope_': 'mmpretrain', **model})
    except Exception as error:
        raise ConfigError(
            f'The {role}: building it failed ({type(error).__name__}: {error}).'
        ) from error


def choose_places(
    model: nn.Module, names: Mapping[str, str | None], image_size: int, role: str, title: str
) -> dict[str, Place]:
    """Find the places of a network, by its structure or by the names that the user gave.

    Args:
        model: The network.
        names: For each layer the user's ``MODULE`` or ``MODULE:INDEX``, or None to find it.
        image_size: Side of the images.
        role: ``teacher`` or ``student``.
        title: What the user calls the network.

    Raises:
        ConfigError: A place can't be told; the message lists candidates with their shapes.
    """
    trace = probe(model, image_size, role)
    prefix = '--teacher-' if role == 'teacher' else '--'
    places: dict[str, Place] = {}
    problems = []
    for layer, name in names.items():
        try:
            if name is not None:
                places[layer] = named_place(trace, name, f'{prefix}{layer}')
            else:
                places[layer] = FINDERS[layer](trace)
        except SmallMapError as error:
            raise ConfigError(
                f'The {role} {title}: its last feature map for images of {image_size}x{image_size} is '
                '1x1, so there are no regions to compare. Choose a larger --image-size, or a network '
                'for small images.'
            ) from error
        except UnclearPlaceError as error:
            problems.append(f'"{layer}" ({error}): name it with {prefix}{layer} MODULE')
    if not problems and len({place.module for place in places.values()}) < len(places):
        problems.append(
            f'"inter" and "penult" apart (both are {places["penult"].module}): name one with '
            f'{prefix}inter MODULE or {prefix}penult MODULE'
        )
    if problems:
        other = 'inter' in names and ('penult' in places or len(places) == len(names))
        one_layer = ', or leave "inter" out with --letkd1' if other else ''
        raise ConfigError(
            f'The {role} {title}: can not tell {" and ".join(problems)}{one_layer}. KD layers need '
            'feature maps (N, C, H, W) of a module that runs once; MODULE:INDEX is one output of '
            f'several. With an image of {image_size}x{image_size} these modules give:\n'
            f'{candidates(trace)}'
        )
    return places


def check_sizes(layer: str, teacher: Place, student: Place) -> None:
    """Raise a ConfigError where the teacher's map is smaller than the student's."""
    if teacher.shape[1] < student.shape[1] or teacher.shape[2] < student.shape[2]:
        raise ConfigError(
            f'KD layer "{layer}": the teacher\'s map must be at least as large as the student\'s, but '
            f'the teacher has {teacher} and the student {student}. Name an earlier module of the '
            f'teacher with --teacher-{layer}, or a later one of the student with --{layer}'
            f'{", or leave this layer out with --letkd1" if layer == "inter" else ""}.'
        )


@dataclass
class Sizes:
    """Sizes of the decisions.

    Attributes:
        num_classes: C.
        num_subclasses: M.
        num_components: L.
        num_centroids: K of the penultimate layer.
    """

    num_classes: int
    num_subclasses: int
    num_components: int
    num_centroids: int

    def templates(self, layer: str) -> int:
        """K of a KD layer."""
        return self.num_classes * self.num_subclasses if layer == 'inter' else self.num_centroids

    def decision(self, layer: str) -> dict[str, Any]:
        """Arguments of a layer's decision."""
        if layer == 'inter':
            return dict(
                num_classes=self.num_classes,
                num_subclasses=self.num_subclasses,
                num_components=self.num_components,
            )
        return dict(num_centroids=self.num_centroids, temperature=1.0)


def components(num_classes: int, channels: int) -> int:
    """L: 60 for 100 classes or more, else 8; at most C - 1 and D (letKD, supplementary material)."""
    return max(1, min(60 if num_classes >= 100 else 8, num_classes - 1, channels))


def centroids(positions: int, most: int = 4096, share: int = 16) -> int:
    """How many centroids: 4096, or the power of two that leaves each 16 positions on average."""
    return max(2, min(most, 2 ** max(1, (positions // share).bit_length() - 1)))


def distiller_config(
    teacher: Mapping[str, Place], student: Mapping[str, Place], sizes: Sizes
) -> dict[str, Any]:
    """What a pair adds to the distiller of letkd1.py or letkd2.py."""
    config = dict(
        kd_layers={layer: place.kd_layer for layer, place in student.items()},
        connectors={
            layer: dict(in_channels=place.shape[0], num_templates=sizes.templates(layer))
            for layer, place in student.items()
        },
        teacher_recorders={layer: dict(source=place.module) for layer, place in teacher.items()},
        distill_losses={f'loss_{layer}': dict(decision=sizes.decision(layer)) for layer in teacher},
    )
    indices = {
        f'loss_{layer}': dict(teacher_feature=dict(data_idx=place.index))
        for layer, place in teacher.items()
        if place.index is not None
    }
    if indices:
        config['loss_forward_mappings'] = indices
    return config
