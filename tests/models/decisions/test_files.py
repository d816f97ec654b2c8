"""Saving and loading decisions; files that are damaged, foreign or of something else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mmkdlayer.errors import DecisionFileError
from mmkdlayer.models import CentroidDecision, SubclassDecision
from mmkdlayer.models.decisions import files, read_decision_file
from mmkdlayer.registry import MODELS

FEATURE = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
LABEL = torch.tensor([0, 1, 1, 0])


def make_centroid() -> CentroidDecision:
    return CentroidDecision.from_tables(torch.randn(5, 3), temperature=0.5)


def make_subclass(sparse: bool = False, **more) -> SubclassDecision:
    table = torch.eye(6)
    table[2] = torch.tensor([0.25, 0, 0.5, 0, 0, 0.25])
    return SubclassDecision.from_tables(
        torch.randn(2, 3),
        torch.randn(2),
        torch.randn(6, 2),
        table.to_sparse() if sparse else table,
        num_classes=2,
        **more,
    )


def make_sparse() -> SubclassDecision:
    return make_subclass(sparse=True)


MAKERS = [make_centroid, make_subclass, make_sparse]


@pytest.mark.parametrize('make', MAKERS)
def test_equal_decisions_make_equal_files(make, tmp_path):
    decision = make()
    contents = set()
    for _ in range(8):
        decision.save(tmp_path / 'd')
        contents.add((tmp_path / 'd').read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize('make', MAKERS)
def test_a_loaded_decision_decides_the_same(make, tmp_path):
    decision = make()
    decision.provenance = dict(teacher=dict(weights='abc'), size=[2, 2], seed=3)
    path = tmp_path / 'new' / 'folder' / 'file.safetensors'
    decision.save(path)
    assert [file.name for file in path.parent.iterdir()] == ['file.safetensors']
    expected = decision.decide(FEATURE, LABEL)
    loaded = type(decision).load(path)
    assert torch.equal(loaded.decide(FEATURE, LABEL), expected)
    assert loaded.provenance == decision.provenance
    again = tmp_path / 'again.safetensors'
    loaded.save(again)
    assert torch.equal(type(decision).load(str(again)).decide(FEATURE, LABEL), expected)


@pytest.mark.parametrize('make', MAKERS)
def test_an_instance_takes_a_file(make, tmp_path):
    decision = make()
    decision.save(tmp_path / 'file.safetensors')
    empty = type(decision)(**decision.options())
    assert empty.load(tmp_path / 'file.safetensors') is empty
    assert torch.equal(empty.decide(FEATURE, LABEL), decision.decide(FEATURE, LABEL))


def test_the_file_argument_of_a_config(tmp_path):
    file = str(tmp_path / 'file.safetensors')
    make_centroid().save(file)
    config = dict(type='mmkdlayer.CentroidDecision', num_centroids=5, temperature=2.0, file=file)
    decision = MODELS.build(config)
    assert decision.is_fitted and decision.file == file
    assert decision.temperature == 2.0  # the config's: the tables are the same for any
    make_subclass().save(file)
    config = dict(type='mmkdlayer.SubclassDecision', num_classes=2, num_subclasses=3, file=file)
    assert MODELS.build(config).projection.shape == (2, 3)


@pytest.mark.parametrize('sparse', [False, True])
def test_what_is_in_a_file(sparse, tmp_path):
    path = tmp_path / 'file.safetensors'
    make_subclass(sparse, prototypes=torch.randn(6, 2)).save(path)
    with safe_open(path, framework='pt') as opened:
        names, header = set(opened.keys()), json.loads(opened.metadata()['header'])
    table = {'decisions.indices', 'decisions.values'} if sparse else {'decisions'}
    assert names == {'projection', 'offset', 'centers', 'prototypes'} | table
    assert header['kind'] == 'SubclassDecision'
    assert header['settings']['num_classes'] == 2
    make_centroid().save(path)
    with safe_open(path, framework='pt') as opened:
        assert set(opened.keys()) == {'centroids'}


def test_tables_that_are_one_tensor_are_saved(tmp_path):
    centers = torch.randn(6, 2)
    decision = SubclassDecision.from_tables(
        torch.randn(2, 3), torch.randn(2), centers, torch.eye(6), 2, prototypes=centers
    )
    decision.save(tmp_path / 'file.safetensors')
    loaded = SubclassDecision.load(tmp_path / 'file.safetensors')
    assert torch.equal(loaded.prototypes, centers) and torch.equal(loaded.centers, centers)


def test_tables_that_are_views_are_saved(tmp_path):
    decision = CentroidDecision.from_tables(torch.randn(3, 5).t())
    decision.save(tmp_path / 'file.safetensors')
    loaded = CentroidDecision.load(tmp_path / 'file.safetensors')
    assert torch.equal(loaded.centroids, decision.centroids)


@pytest.mark.parametrize(
    ('decision', 'message'),
    [
        (CentroidDecision(4), 'num_centroids is 4 in the config and 5 in the file'),
        (SubclassDecision(3, 3, 2), 'num_classes is 3 in the config and 2 in the file'),
        (SubclassDecision(2, 4, 2), 'num_subclasses is 4 in the config and 3 in the file'),
        (SubclassDecision(2, 3, 9), 'num_components is 9 in the config and 2 in the file'),
    ],
)
def test_other_settings_are_an_error_that_names_both_values(decision, message, tmp_path):
    path = tmp_path / 'file.safetensors'
    made = make_centroid() if isinstance(decision, CentroidDecision) else None
    (made or make_subclass(num_components=2)).save(path)
    with pytest.raises(DecisionFileError, match=message):
        decision.load(path)
    assert not decision.is_fitted
    with pytest.raises(DecisionFileError, match=message):
        type(decision)(**decision.fit_options(), file=path)


def test_tables_made_by_hand_do_not_say_how_many_components_were_asked_for(tmp_path):
    path = tmp_path / 'file.safetensors'
    make_subclass().save(path)
    assert SubclassDecision(2, 3, num_components=60, file=path).is_fitted
    with pytest.raises(DecisionFileError, match='num_components is 1, but the tables have L=2'):
        SubclassDecision(2, 3, num_components=1, file=path)


@pytest.mark.parametrize(
    'kinds', [(make_centroid, SubclassDecision), (make_subclass, CentroidDecision)]
)
def test_the_other_kind_is_an_error_that_names_both(kinds, tmp_path):
    make, other = kinds
    make().save(tmp_path / 'file')
    found = type(make()).__name__
    with pytest.raises(DecisionFileError, match=f'expected a {other.__name__}.* holds a {found}'):
        other.load(tmp_path / 'file')


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DecisionFileError, match=r'nowhere: there is no such file.*fit_decisions'):
        CentroidDecision.load(tmp_path / 'nowhere')
    with pytest.raises(DecisionFileError, match='there is no such file'):
        CentroidDecision.load(tmp_path)


@pytest.mark.parametrize('make', MAKERS)
@pytest.mark.parametrize('place', ['header', 'numbers'])
def test_a_file_with_one_bit_flipped(make, place, tmp_path):
    path = tmp_path / 'file'
    make().save(path)
    content = bytearray(path.read_bytes())
    # A letter of the header's JSON, or the least bit of the last number.
    content[-4 if place == 'numbers' else content.index(b'provenance') + 3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DecisionFileError, match='not what was written.*fit_decisions'):
        type(make()).load(path)


@pytest.mark.parametrize('make', MAKERS)
@pytest.mark.parametrize('share', [0, 0.05, 0.5, 0.99])
def test_a_truncated_file(make, share, tmp_path):
    path = tmp_path / 'file'
    make().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DecisionFileError, match='truncated.*fit_decisions'):
        type(make()).load(path)


@pytest.mark.parametrize(
    'content', [b'PK\x03\x04 something else' * 9, b'{"json": true}', b'\xff' * 99]
)
def test_a_file_of_another_format(content, tmp_path):
    (tmp_path / 'file').write_bytes(content)
    with pytest.raises(DecisionFileError, match='expected a whole safetensors file'):
        CentroidDecision.load(tmp_path / 'file')


@pytest.mark.parametrize('metadata', [None, dict(format='pt')])
def test_safetensors_of_another_program(metadata, tmp_path):
    save_file(dict(centroids=torch.zeros(5, 3)), tmp_path / 'file', metadata=metadata)
    with pytest.raises(DecisionFileError, match='another program wrote it'):
        CentroidDecision.load(tmp_path / 'file')


HEADER = dict(kind='CentroidDecision', settings=dict(num_centroids=5), provenance={})


@pytest.mark.parametrize(
    ('metadata', 'tables', 'message'),
    [
        (dict(format_version='99'), {}, 'expected format version 1, but found 99'),
        (dict(header='{"kind"'), {}, 'header is damaged'),
        (dict(header='[]'), {}, 'header is damaged'),
        (dict(header='{"kind": "CentroidDecision"}'), {}, 'header is damaged'),
        (dict(header=json.dumps(dict(HEADER, settings=[5]))), {}, 'header is damaged'),
        (dict(header=json.dumps(dict(HEADER, provenance=None))), {}, 'header is damaged'),
        ({}, {}, 'tables do not fit'),
        ({}, dict(centroids=torch.zeros(4, 3)), r'tables do not fit.*K=5.*\(4, 3\)'),
        ({}, {'centroids.values': torch.zeros(4)}, 'tables do not fit'),
        ({}, dict(centroids=torch.full((5, 3), float('nan'))), 'tables do not fit.*not finite'),
    ],
)
@pytest.mark.parametrize('instance', [False, True])
def test_a_header_or_tables_that_are_damaged(metadata, tables, message, instance, tmp_path):
    metadata = {
        'format': files.FORMAT,
        'format_version': '1',
        'header': json.dumps(HEADER),
        **metadata,
    }
    save_file(tables or dict(other=torch.zeros(1)), tmp_path / 'file', metadata=metadata)
    with pytest.raises(DecisionFileError, match=message):
        (CentroidDecision(5) if instance else CentroidDecision).load(tmp_path / 'file')


@pytest.mark.parametrize('settings', [dict(x=1), dict(num_centroids='5'), dict(num_centroids=0)])
def test_settings_that_make_no_decision(settings, tmp_path):
    header = json.dumps(dict(HEADER, settings=settings))
    metadata = dict(format=files.FORMAT, format_version='1', header=header)
    save_file(dict(centroids=torch.zeros(5, 3)), tmp_path / 'file', metadata=metadata)
    with pytest.raises(DecisionFileError, match='header is damaged; the settings'):
        CentroidDecision.load(tmp_path / 'file')


def test_sparse_indices_that_are_out_of_range(tmp_path):
    path = tmp_path / 'file'
    make_sparse().save(path)
    with safe_open(path, framework='pt') as opened:
        names, metadata = opened.keys(), opened.metadata()
        # Copies: the file is written over.
        tables = {name: opened.get_tensor(name).clone() for name in names}
    del metadata['sha256']  # a file that somebody else made
    tables['decisions.indices'] += 3
    save_file(tables, path, metadata=metadata)
    with pytest.raises(DecisionFileError, match='tables do not fit'):
        SubclassDecision.load(path)


@pytest.mark.parametrize('change', ['truncate', 'copy over', 'remove'])
def test_tables_stay_when_their_file_is_changed(change, tmp_path):
    path, other = tmp_path / 'file', tmp_path / 'other'
    decision = CentroidDecision.from_tables(torch.randn(512, 64))
    decision.save(path)
    CentroidDecision.from_tables(torch.zeros(512, 64)).save(other)
    loaded = CentroidDecision(512, file=path)
    content = read_decision_file(path)
    if change == 'truncate':
        os.truncate(path, 0)
    elif change == 'copy over':
        shutil.copyfile(other, path)  # into the same file, as cp does
    else:
        path.unlink()
    assert torch.equal(loaded.centroids, decision.centroids)
    assert torch.equal(CentroidDecision.load(content).centroids, decision.centroids)


def test_a_header_of_hostile_depth_is_refused(run_forked, tmp_path):
    """In a process of its own, which it used to end: mmrazor raises the recursion limit."""
    for name, text in (('header', '[' * 100000 + ']' * 100000), ('key', '{"a":' * 100000)):
        metadata = dict(format=files.FORMAT, format_version='1', header=text)
        save_file(dict(centroids=torch.zeros(5, 3)), tmp_path / name, metadata=metadata)
    raw = b'[' * 100000 + b']' * 100000
    (tmp_path / 'raw').write_bytes(len(raw).to_bytes(8, 'little') + raw)
    code = """
import sys
sys.setrecursionlimit(2**20)
from mmkdlayer.errors import DecisionFileError
from mmkdlayer.models import CentroidDecision
for path in sys.argv[1:]:
    try:
        CentroidDecision.load(path)
    except DecisionFileError as error:
        print(error)
"""
    paths = [str(tmp_path / name) for name in ('header', 'key', 'raw')]
    header, key, raw = run_forked(code, *paths).splitlines()
    assert 'header is damaged' in header and 'nested more than' in header
    assert 'nested more than' in key and 'expected a whole safetensors file' in raw


@pytest.mark.parametrize('size', [2**62, 10**10, 100])
def test_a_header_that_is_longer_than_the_file(size, tmp_path):
    (tmp_path / 'file').write_bytes(size.to_bytes(8, 'little') + b'{}' * 9)
    with pytest.raises(DecisionFileError, match=f'its header ends at byte {size + 8} of 26'):
        CentroidDecision.load(tmp_path / 'file')


def write_raw(path: Path, tables: dict, provenance: object = ()) -> None:
    """A file that somebody else made: no checksum."""
    header = json.dumps(dict(HEADER, provenance=provenance or {}))
    metadata = dict(format=files.FORMAT, format_version='1', header=header)
    save_file(tables, path, metadata=metadata)


@pytest.mark.parametrize('name', ['teacher', 'layer', 'data', 'fitting'])
@pytest.mark.parametrize('value', ['resnet50.pth', ['a'], 3])
def test_provenance_of_another_type(name, value, tmp_path):
    write_raw(tmp_path / 'file', dict(centroids=torch.zeros(5, 3)), {name: value})
    message = rf'header is damaged .*provenance\.{name} is of another type'
    with pytest.raises(DecisionFileError, match=message):
        read_decision_file(tmp_path / 'file')


def test_tables_of_other_types(tmp_path):
    path, table = tmp_path / 'file', torch.arange(15.0).view(5, 3)
    for dtype in (torch.bfloat16, torch.float16, torch.int32, torch.float64):
        write_raw(path, dict(centroids=table.to(dtype)))
        assert torch.equal(CentroidDecision.load(path).centroids.float(), table)
    write_raw(path, dict(centroids=table.to(torch.complex64)))
    with pytest.raises(
        DecisionFileError, match='"centroids" in real numbers, but got torch.complex64'
    ):
        CentroidDecision.load(path)


def test_the_checksum_of_tables_that_numpy_has_no_type_for(tmp_path):
    path, table = tmp_path / 'file', torch.randn(5, 3).bfloat16()
    content = files.DecisionFile('CentroidDecision', HEADER['settings'], {}, dict(centroids=table))
    files.write_decision_file(path, content)
    assert torch.equal(read_decision_file(path).tables['centroids'], table)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(DecisionFileError, match='not what was written'):
        read_decision_file(path)


@pytest.mark.parametrize('value', [3e38, -3e38, 1e30, float('nan'), float('inf')])
def test_magnitudes_that_overflow_are_refused(value, tmp_path):
    centroids = torch.randn(5, 3)
    centroids[1, 2] = value
    write_raw(tmp_path / 'file', dict(centroids=centroids))
    words = 'not finite' if not abs(value) < 1e39 else 'at most 1e\\+36.*but it is up to'
    with pytest.raises(DecisionFileError, match=f'file: its tables do not fit.*{words}'):
        CentroidDecision.load(tmp_path / 'file')


def test_a_failed_load_leaves_a_decision_as_it_was(tmp_path):
    decision = make_centroid()
    decision.provenance = dict(seed=1)
    expected = decision.decide(FEATURE)
    make_subclass().save(tmp_path / 'file')
    with pytest.raises(DecisionFileError):
        decision.load(tmp_path / 'file')
    assert torch.equal(decision.decide(FEATURE), expected) and decision.provenance == dict(seed=1)


@pytest.mark.parametrize('failing', ['save_file', 'replace'])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(failing, tmp_path, monkeypatch):
    path = tmp_path / 'file'
    old = make_centroid()
    old.save(path)

    def fail(*args: object, **kwargs: object) -> None:
        if failing == 'save_file':
            Path(args[1]).write_bytes(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr(*((files, failing) if failing == 'save_file' else (Path, failing)), fail)
    with pytest.raises(OSError, match='No space left'):
        make_centroid().save(path)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ['file']
    assert torch.equal(CentroidDecision.load(path).centroids, old.centroids)


def test_provenance_that_is_no_json_leaves_nothing(tmp_path):
    decision = make_centroid()
    decision.provenance = dict(data={1, 2})
    with pytest.raises(TypeError, match='not JSON serializable'):
        decision.save(tmp_path / 'file')
    assert not list(tmp_path.iterdir())


def test_others_can_read_a_file(tmp_path):
    (tmp_path / 'plain').touch()
    make_centroid().save(tmp_path / 'file')
    assert (tmp_path / 'file').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_saving_over_a_file_that_is_in_use(tmp_path):
    path = tmp_path / 'file'
    old = make_centroid()
    old.save(path)
    loaded = CentroidDecision.load(path)
    make_centroid().save(path)
    assert torch.equal(loaded.centroids, old.centroids)
