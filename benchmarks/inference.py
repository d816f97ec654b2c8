"""What KD layers cost at inference: as trained, folded, pruned, in PyTorch, onnxruntime, 8-bit integers.

All variants of a network share their weights and take turns in one run. The weights are random, with
batch norm statistics of noise, so that about half of all assignments are positive, as in a fresh
layer. How many templates a trained layer can lose depends on its data: here a given share is taken
out (--kept), to show what that is worth. 8-bit files are calibrated on noise too: their times count, and
their accuracy is told by export_student.py --int8 alone.

    python benchmarks/inference.py
    python benchmarks/inference.py --networks rn20 --batches 1 --repeats 3 --side 32    # a quick try
"""

from __future__ import annotations

import argparse
import copy
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import circumstances, interleaved, markdown
from mmengine.analysis import parameter_count
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

import mmkdlayer  # noqa: F401
from mmkdlayer.deploy import student_model_config
from mmkdlayer.deploy.example_images import first_channels
from mmkdlayer.deploy.flops import count_flops
from mmkdlayer.deploy.folding import fold_student, prune_student
from mmkdlayer.deploy.formats import FILES, write_format
from mmkdlayer.deploy.int8 import INT8, quantise

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'kdlayer'
NETWORKS = dict(
    rn20=('ResNet-20, CIFAR-100', 'resnet56_resnet20_cifar100.py', 32),
    rn18=('ResNet-18, ImageNet', 'resnet34_resnet18_in1k.py', 224),
    mnv2=('MobileNetV2, ImageNet', 'resnet50_mobilenetv2_in1k.py', 224),
)
ALONE, TRAINED, FOLDED = 'student alone', 'with KD layers', 'folded'


def build(model_cfg: dict, state: dict[str, Tensor] | None = None) -> Any:
    """A network in eval mode; entries of ``state`` that it does not have are left out."""
    model = MODELS.build(copy.deepcopy(model_cfg)).eval()
    if state is not None:
        model.load_state_dict({key: state[key] for key in model.state_dict()})
    return model


@torch.no_grad()
def settle(model: nn.Module, side: int) -> None:
    """Give the batch norms statistics of noise, in the order in which the network runs."""
    model.train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # plain average
    for _ in range(2):
        model(torch.randn(8, first_channels(model), side, side), mode='tensor')
    model.eval()


def variants(config: str, side: int, kept: float) -> dict[str, Any]:
    """The network alone, with its KD layers, folded and pruned, with the same weights."""
    cfg = Config.fromfile(CONFIGS / config)
    init_default_scope(cfg.default_scope)
    model_cfg = student_model_config(cfg)
    torch.manual_seed(0)
    trained = build(model_cfg)
    settle(trained, side)
    state = trained.state_dict()
    models = {ALONE: build(dict(model_cfg, kd_layers={}), state), TRAINED: trained}
    folded_cfg = copy.deepcopy(model_cfg)
    source = build(model_cfg, state)
    fold_student(folded_cfg, source)
    models[FOLDED] = build(folded_cfg, source.state_dict())
    pruned_cfg = copy.deepcopy(folded_cfg)
    firing = {
        name: torch.arange(layer.num_templates) < kept * layer.num_templates
        for name, layer in source.kd_layers.items()
    }
    prune_student(pruned_cfg, source, firing, 'nothing: they are chosen')
    models[f'folded, {kept:.0%} of the templates'] = build(pruned_cfg, source.state_dict())
    return models


def count(model: nn.Module, side: int) -> tuple[int, int]:
    """Parameters, and multiply-adds for one image (as in the table of pairs)."""
    flops = count_flops(model, (first_channels(model), side, side))
    return parameter_count(model)[''], flops['']


def onnx_session(
    model: nn.Module, side: int, folder: Path, integers: bool = False
) -> tuple[Any, int]:
    """An onnxruntime session with as many threads as torch has, and the size of the file in bytes."""
    import onnxruntime

    noise = torch.randn(3, first_channels(model), side, side)
    write_format('onnx', model, noise, folder)
    file = folder / FILES['onnx']
    if integers:
        quantise(file, folder / INT8, iter([noise]))
        file = folder / INT8
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin between two runs would take the other cases' turn.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    return session, file.stat().st_size


def run_each(inputs: dict[nn.Module, Tensor]) -> None:
    """Run modules on their inputs."""
    for module, x in inputs.items():
        module(x)


@torch.no_grad()
def layer_runs(models: dict[str, Any], images: Tensor) -> dict[str, Callable[[], Any]]:
    """The KD layers of each variant by themselves, on the maps that they get from these images."""
    runs: dict[str, Callable[[], Any]] = {}
    for name, model in models.items():
        inputs: dict[nn.Module, Tensor] = {}
        layers = list(getattr(model, 'kd_layers', {}).values())
        handles = [
            layer.register_forward_pre_hook(
                lambda layer, args, to=inputs: to.update({layer: args[0]})
            )
            for layer in layers
        ]
        model(images, mode='tensor')
        for handle in handles:
            handle.remove()
        if inputs:
            runs[name] = functools.partial(run_each, inputs)
    return runs


def run_onnx(session: Any, images: Tensor) -> Any:
    """The logits of an ONNX file."""
    return session.run(None, {'input': images.numpy()})


def table(args: argparse.Namespace, title: str, config: str, side: int) -> str:
    """Measure one network."""
    models = variants(config, side, args.kept)
    facts: dict[str, tuple[int | None, int | None, int]] = {}
    runs: dict[str, Callable[[Tensor], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            torch.save(model.state_dict(), Path(folder) / 'student.pth')
            size = (Path(folder) / 'student.pth').stat().st_size
            facts[name] = (*count(model, side), size)
            runs[name] = functools.partial(model, mode='tensor')
        if not args.no_onnx:
            for name in (ALONE, TRAINED, FOLDED):
                session, size = onnx_session(models[name], side, Path(folder))
                facts[f'ONNX: {name}'] = (None, None, size)
                runs[f'ONNX: {name}'] = functools.partial(run_onnx, session)
            for name in (ALONE, FOLDED):
                session, size = onnx_session(models[name], side, Path(folder), integers=True)
                facts[f'ONNX, 8-bit integers: {name}'] = (None, None, size)
                runs[f'ONNX, 8-bit integers: {name}'] = functools.partial(run_onnx, session)
    seconds: dict[int, dict[str, float]] = {}
    layers: dict[int, dict[str, float]] = {}
    for batch in args.batches:
        images = torch.randn(batch, first_channels(models[ALONE]), side, side)
        with torch.no_grad():
            cases = {name: functools.partial(run, images) for name, run in runs.items()}
            alone = layer_runs(models, images)
            seconds[batch] = interleaved(cases, args.repeats, warmup=2, clock=args.clock)
            layers[batch] = interleaved(alone, args.repeats, warmup=2, clock=args.clock)
    rows = []
    for name, (parameters, flops, size) in facts.items():
        row = [
            name,
            f'{parameters / 1e6:.2f}' if parameters else '',
            f'{flops / 1e9:.3f}' if flops else '',
        ]
        row.append(f'{size / 1e6:.1f}')
        row += [f'{times[name] * 1e3:.1f}' for times in seconds.values()]
        row += [f'{times[name] * 1e3:.1f}' if name in times else '' for times in layers.values()]
        rows.append(row)
    header = ['', 'parameters, M', 'multiply-adds, G', 'file, MB']
    header += [f'batch {batch}, ms' for batch in args.batches]
    header += [f'KD layers alone, batch {batch}, ms' for batch in args.batches]
    lines = [f'### {title}, {side}x{side}', '', markdown(header, rows), '']
    for batch, times in seconds.items():
        ratio = layers[batch][TRAINED] / layers[batch][FOLDED]
        lines.append(
            f'Batch {batch}: the KD layers make it {times[TRAINED] / times[ALONE]:.2f} times as slow, '
            f'folded {times[FOLDED] / times[ALONE]:.2f} times; folding makes the layers '
            f'{ratio:.2f} times faster.'
        )
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument('--batches', nargs='+', type=int, default=[1, 32])
    parser.add_argument('--repeats', type=int, default=11)
    parser.add_argument(
        '--kept', type=float, default=0.5, help='share of templates kept by pruning'
    )
    parser.add_argument('--side', type=int, help='side of the images, for a quick try')
    parser.add_argument(
        '--no-onnx', action='store_true', help='onnx and onnxruntime are not needed'
    )
    parser.add_argument(
        '--processor-time',
        dest='clock',
        action='store_const',
        default=time.perf_counter,
        const=time.process_time,
        help='time of one thread on the processor: on a machine that is busy with other work',
    )
    args = parser.parse_args()
    if args.clock is time.process_time:
        torch.set_num_threads(1)
    packages = ('torch', 'mmengine', 'mmpretrain', 'onnx', 'onnxruntime')
    print(circumstances(packages), end='\n\n')
    for name in args.networks:
        title, config, side = NETWORKS[name]
        print(table(args, title, config, args.side or side), flush=True)


if __name__ == '__main__':
    main()
