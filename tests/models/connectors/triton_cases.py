"""What Triton's kernels calculate, under Triton's interpreter on a CPU.

Run by test_triton_kernels.py in a process of its own, with TRITON_INTERPRET=1, which Triton reads when
it is imported.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from simulated_cuda.device import SimulatedCuda
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from triton.runtime.interpreter import GridExecutor

from mmkdlayer.models import (
    CentroidDecision,
    KDLayerConnector,
    SubclassDecision,
    TeacherDecisionLoss,
)
from mmkdlayer.models.connectors import elementwise, memory_efficient
from mmkdlayer.models.connectors import triton_kernels as kernels
from mmkdlayer.models.decisions.centroid_decision import SoftmaxTargets
from mmkdlayer.models.decisions.row_targets import RowTargets
from mmkdlayer.models.decisions.table_targets import DenseRows, TableTargets
from mmkdlayer.models.losses import teacher_decision_loss
from mmkdlayer.models.losses import triton_kernels as loss_kernels

pytestmark = pytest.mark.filterwarnings('ignore::RuntimeWarning')  # NumPy's, of masked places
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14}
SHAPES = [(1, 1), (3, 70), (64, 32), (75, 37)]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many programs for small matrices."""
    monkeypatch.setattr(kernels, 'BLOCK', 512)
    monkeypatch.setattr(kernels, 'MOST_COLUMNS', 32)
    monkeypatch.setattr(kernels, 'SUM_ROWS', 8)
    monkeypatch.setattr(kernels, 'SUM_COLUMNS', 16)
    monkeypatch.setattr(kernels, 'MOST_RUNS', 3)


def columns(rows: int, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A view of columns of a wider matrix, as the tiles of scores are."""
    return torch.randn(rows, 2 * count + 1, dtype=dtype)[:, count : 2 * count]


def vectors(number: int, count: int, dtype: torch.dtype) -> list[Tensor]:
    return list(torch.randn(number, count, dtype=dtype).unbind())


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal, relative to the largest number that is expected."""
    assert found.shape == expected.shape
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance * scale)


def double(*values: Tensor | None) -> list:
    return [None if value is None else value.double().clone() for value in values]


def check_all(shape: tuple[int, int], dtype: torch.dtype) -> None:
    rows, count = shape
    tolerance = TOLERANCE[dtype]
    s = columns(rows, count, dtype)
    for centre in (0.0, 300.0):
        mean, var = kernels.mean_and_variance(s + centre)
        # Exact for the numbers as they were rounded.
        expected_mean, expected_var = elementwise.mean_and_variance((s + centre).double())
        close(mean, expected_mean, tolerance)
        # As many roundings as there are rows at most, and those of deviations from a rounded mean.
        spread = max(float(expected_var.max()), 1.0)
        assert (var.double() - expected_var).abs().max() < tolerance * (spread + centre)
    slope, offset, tilt, shift = vectors(4, count, dtype)
    expected_p, expected_squares = elementwise.assign_with_squares(*double(s, slope, offset))
    p, squares = kernels.assign_with_squares(s, slope, offset)
    for found, expected in ((p, expected_p), (squares, expected_squares)):
        close(found, expected, tolerance)
    assert p.is_contiguous() and torch.equal(kernels.assign(s, slope, offset), p)
    wide = columns(rows, count, dtype)
    assert kernels.assign(s, slope, offset, wide) is wide and torch.equal(wide, p)
    factor, d_p = torch.randn(rows, dtype=dtype), torch.randn(rows, count, dtype=dtype)
    expected_sums = elementwise.masked_gradient(*double(d_p, p, s, factor))
    g, *sums = kernels.masked_gradient(d_p, p, s, factor)
    for found, expected in zip((g, *sums), expected_sums):
        close(found, expected, tolerance)
    loss = columns(rows, count, dtype)
    for through in ((tilt, shift), (None, None)):
        for given in (loss, None):
            expected = elementwise.score_gradient(*double(g, s, slope, *through, given))
            found = kernels.score_gradient(g.clone(), s, slope, *through, given)
            close(found, expected, tolerance)


@pytest.mark.usefixtures('small_blocks')
@pytest.mark.parametrize(
    ('shape', 'dtype'),
    [*((shape, torch.float32) for shape in SHAPES), ((21, 37), torch.float64)],
)
def test_functions(shape: tuple[int, int], dtype: torch.dtype) -> None:
    check_all(shape, dtype)


@pytest.mark.parametrize('shape', [(200, 3), (17, 1030)])
def test_functions_with_the_blocks_of_a_gpu(shape: tuple[int, int]) -> None:
    check_all(shape, torch.float32)


def test_sums_over_many_rows() -> None:
    s, d_p, p = columns(2100, 3), torch.randn(2100, 3), torch.rand(2100, 3)
    for found, expected in zip(
        kernels.mean_and_variance(s), (s.double().mean(0), s.double().var(0, False))
    ):
        close(found, expected, 1e-6)
    expected_sums = elementwise.masked_gradient(*double(d_p, p, s, p[:, 0]))
    for found, expected in zip(kernels.masked_gradient(d_p, p, s, p[:, 0].clone()), expected_sums):
        close(found, expected, 1e-6)


def test_blocks_cover_every_row_once() -> None:
    for rows in (1, 15, 16, 17, 64, 65, 12544, 3_211_264):
        for count in (1, 64, 129, 800, 8000):
            run, (runs, blocks) = kernels._runs(torch.empty(rows, count, device='meta'))
            assert run % kernels.SUM_ROWS == 0 and (runs - 1) * run < rows <= runs * run
            assert runs <= kernels.MOST_RUNS and blocks * kernels.SUM_COLUMNS >= count


def test_offsets_beyond_int32() -> None:
    """Rows 2^30 numbers apart; of the memory only these rows are ever touched."""
    memory = torch.empty(2**31 + 8)
    s = memory.as_strided((3, 5), (2**30, 1)).copy_(torch.randn(3, 5))
    slope, offset, tilt = torch.randn(3, 5)
    close(kernels.mean_and_variance(s)[1], s.double().var(0, unbiased=False), 1e-6)
    p = kernels.assign(s, slope, offset)
    close(p, elementwise.assign(*double(s, slope, offset)), 1e-6)
    g = torch.randn(3, 5)
    expected = elementwise.score_gradient(*double(g, s, slope, tilt, offset, s))
    close(kernels.score_gradient(g, s, slope, tilt, offset, s), expected, 1e-6)


def test_numbers_that_are_none_stay_none() -> None:
    s, slope, offset = columns(5, 6), torch.ones(6), torch.zeros(6)
    s[1, 2] = torch.nan
    p, squares = kernels.assign_with_squares(s, slope, offset)
    assert p.isnan().nonzero().tolist() == [[1, 2]] and squares.isnan().tolist() == [
        row == 1 for row in range(5)
    ]
    d_p, p = torch.randn(5, 6), torch.rand(5, 6)
    d_p[3, 4], p[3, 4] = torch.inf, 0  # as the plain way: such a step is to be left out
    assert kernels.masked_gradient(d_p, p, s, torch.ones(5))[0].isnan()[3, 4]
    assert kernels.mean_and_variance(s)[1].isnan().tolist() == [i == 2 for i in range(6)]


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize('are_logits', [False, True])
def test_the_loss(are_logits: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several runs of positions, several blocks of rows and of columns, all with an empty end."""
    monkeypatch.setattr(loss_kernels, 'BLOCK', 32)
    count, size = 2 * 2 * 2, 40
    scores = 3 * torch.randn(2, size, 2, 2, dtype=torch.float64) - 5
    scores = scores.to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    wide = torch.promote_types(dtype, torch.float32)
    parts = [slice(0, 5), slice(5, count)]
    targets: RowTargets
    if are_logits:  # of which the largest are far from zero, as those of an untidy code book
        rows, weight = torch.randn(count, 3, dtype=wide), torch.randn(size, 3, dtype=wide)
        targets = SoftmaxTargets(rows, weight, torch.full((size,), 1000.0, dtype=wide))
        # The products of the same rows: those of others are rounded otherwise, by 1e-13 of 1000.
        p = torch.cat([targets.matrix(part)[0] for part in parts]).double().softmax(1)
    else:
        table = torch.rand(size, size, dtype=wide)
        table[table < 0.5] = 0
        table /= table.sum(1, keepdim=True)
        index = torch.arange(count) * 5 % size
        targets = TableTargets(DenseRows(table), torch.empty(0), index)
        p = table[index].double()
    exact = scores.detach().double().requires_grad_()
    log_p = exact.permute(0, 2, 3, 1).flatten(0, 2).log_softmax(1)
    expected = (torch.special.xlogy(p, p) - p * log_p).sum(1).mean()
    (expected * 0.5).backward()
    found = loss_kernels.FusedDivergence.apply(scores, targets, parts)
    close(found.detach(), expected.detach(), 1e-6 if wide == torch.float32 else 1e-14)
    rounded = {torch.bfloat16: 1e-2, torch.float32: 1e-6}.get(dtype, 1e-14)
    for _ in range(2):  # what was made for the first pass is autograd's then
        (grad,) = torch.autograd.grad(found * 0.5, scores, retain_graph=True)
        assert found.dtype == wide and grad.dtype == dtype
        close(grad, exact.grad, rounded)


CHANNELS, CLASSES, SUBCLASSES = 4, 3, 8
KINDS = ['centroid', 'subclass', 'sparse', 'soft']


class Step(nn.Module):
    """A KD layer whose scores are recorded, and the loss of them."""

    def __init__(self, decision: nn.Module, implementation: str) -> None:
        super().__init__()
        self.layer = KDLayerConnector(CHANNELS, CLASSES * SUBCLASSES, implementation=implementation)
        nn.init.uniform_(self.layer.bn.weight, 0.5, 1.5)
        nn.init.normal_(self.layer.bn.bias, std=0.5)
        self.loss = TeacherDecisionLoss(decision, 0.3, implementation=implementation)  # type: ignore[arg-type]
        self.layer.templates.register_forward_hook(
            lambda module, args, out: setattr(self, 'scores', out)
        )

    def results(self, x: Tensor, feature: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Outputs, gradients and running statistics of one step in training."""
        x = x.clone().requires_grad_()
        output = self.layer(x)
        loss = self.loss(self.scores, feature, label)
        (loss + output.square().mean()).backward()
        grads = {name: parameter.grad for name, parameter in self.named_parameters()}
        found = {'output': output, 'loss': loss, 'x': x.grad, **grads, **dict(self.named_buffers())}
        return {name: value.detach() for name, value in found.items()}


def make_decision(kind: str) -> CentroidDecision | SubclassDecision:
    size = CLASSES * SUBCLASSES
    if kind == 'centroid':
        return CentroidDecision.from_tables(torch.randn(size, CHANNELS), 0.5)
    table = torch.rand(size, size, dtype=torch.float64)
    if kind == 'sparse':
        table = table * (table >= table.topk(3).values[:, 2:])
    table[table < 0.1] = 0
    table /= table.sum(1, keepdim=True)
    return SubclassDecision.from_tables(
        torch.randn(2, CHANNELS), torch.randn(2), torch.randn(size, 2), table, CLASSES
    )


def inputs_of(kind: str, images: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(images, CHANNELS, 3, 5)
    x[0, :, 0, 0] = 0
    soft = torch.rand(images, CLASSES, dtype=torch.float64).softmax(1)
    label = soft if kind == 'soft' else torch.arange(images) % CLASSES
    return x, torch.randn(images, CHANNELS, 3, 5), label


@pytest.mark.parametrize(
    ('kind', 'dtype'),
    [*((kind, torch.float32) for kind in KINDS), ('subclass', torch.float64)],
)
def test_a_whole_step(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    decision, inputs = make_decision(kind), inputs_of(kind)
    step = Step(decision, 'triton')
    oracle = Step(decision, 'reference')
    oracle.load_state_dict(step.state_dict())
    expected = oracle.double().results(
        *(i.double() if i.is_floating_point() else i for i in inputs)
    )
    x, feature, label = inputs
    found = step.to(dtype).results(x.to(dtype), feature.to(dtype), label)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == dtype or not value.is_floating_point()
        close(value, expected[name].double(), 1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize('kind', KINDS)
def test_a_whole_step_on_a_simulated_gpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is only done on a GPU, in several tiles and runs; nothing waits for the device."""
    monkeypatch.setattr(memory_efficient, 'DEVICE_TILE', 1)
    monkeypatch.setattr(memory_efficient, 'TILE_MULTIPLE', 8)
    monkeypatch.setattr(teacher_decision_loss, 'DEVICE_CHUNK', 1)
    start = GridExecutor.__call__

    def start_on_the_host(executor: GridExecutor, *args: object, **options: object) -> None:
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            start(executor, *args, **options)

    monkeypatch.setattr(GridExecutor, '__call__', start_on_the_host)
    monkeypatch.setattr(torch.cuda, 'device_of', lambda tensor: nullcontext())
    step, inputs = Step(make_decision(kind), 'triton'), inputs_of(kind)
    oracle = Step(step.loss.decision, 'reference')
    oracle.load_state_dict(step.state_dict())
    expected = oracle.double().results(
        *(i.double() if i.is_floating_point() else i for i in inputs)
    )
    with SimulatedCuda() as cuda:
        step = step.to('cuda')
        on_device = [value.to('cuda') for value in inputs]
        step.loss.decision.prepared_for(on_device[1])  # copies the tables, in the first step
        cuda.found()
        found = step.results(*on_device)
        assert cuda.found('sync', 'copy', 'mix') == []
        found = {name: value.cpu() for name, value in found.items()}
    for name, value in found.items():
        close(value, expected[name].double(), 1e-6)


def test_under_autocast() -> None:
    """Its backward pass is called under autocast too; logits are float32 all the same."""
    step, inputs = Step(make_decision('centroid'), 'triton'), inputs_of('centroid', 2)
    oracle = Step(step.loss.decision, 'reference')
    oracle.load_state_dict(step.state_dict())
    expected = oracle.double().results(
        *(i.double() if i.is_floating_point() else i for i in inputs)
    )
    with torch.autocast('cpu', torch.bfloat16):
        found = step.results(*inputs)
    for name, value in found.items():
        close(value, expected[name].double(), 1e-6)


@pytest.mark.parametrize('kind', ['subclass', 'sparse'])
def test_kernels_are_used_where_they_can(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for module, names in (
        (kernels, ('mean_and_variance', 'assign_with_squares', 'assign')),
        (kernels, ('masked_gradient', 'score_gradient')),
        (loss_kernels, ('FusedDivergence',)),
    ):
        for name in names:
            original = getattr(module, name)

            class Spy:
                def __init__(self, name: str, original: object) -> None:
                    self.name, self.original = name, original

                def __call__(self, *args: object, **options: object) -> object:
                    called.append(self.name)
                    return self.original(*args, **options)  # type: ignore[operator]

                def apply(self, *args: object) -> object:
                    called.append(self.name)
                    return self.original.apply(*args)  # type: ignore[attr-defined]

            monkeypatch.setattr(module, name, Spy(name, original))
    Step(make_decision(kind), 'triton').results(*inputs_of(kind, 2))
    assert called[:2] == ['mean_and_variance', 'assign_with_squares']
    assert called[-3:] == ['assign', 'masked_gradient', 'score_gradient']
    assert ('FusedDivergence' in called) == (kind == 'subclass')


def test_two_runs_are_equal_bit_by_bit() -> None:
    step, inputs = Step(make_decision('subclass'), 'triton'), inputs_of('subclass', 2)
    other = copy.deepcopy(step)
    other.layer.templates._forward_hooks.clear()
    other.layer.templates.register_forward_hook(lambda m, args, out: setattr(other, 'scores', out))
    first, second = step.results(*inputs), other.results(*inputs)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
