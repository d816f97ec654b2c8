from __future__ import annotations

import numpy as np
import pytest
import torch
from command_line import load_tool

from mmkdlayer.errors import CheckpointError, DecisionFileError
from mmkdlayer.models.decisions import CentroidDecision, SubclassDecision

convert_decisions = load_tool('convert_decisions').convert_decisions

CLASSES, SUBCLASSES, COMPONENTS, CHANNELS, RANK, CENTROIDS = 3, 8, 2, 5, 4, 6
TEMPLATES = CLASSES * SUBCLASSES


def arrays(seed=0):
    random = np.random.default_rng(seed)
    scores = random.random((TEMPLATES, TEMPLATES)) ** 8
    return {
        'lda_model_scalings.npy': random.normal(size=(CHANNELS, RANK)),
        'lda_model_xbar.npy': random.normal(size=CHANNELS) + 3,
        'centers_subclass_8.npy': random.normal(size=(TEMPLATES, COMPONENTS)).astype(np.float32),
        'final_scores_8_lda.npy': scores / scores.sum(1, keepdims=True),
    }


def code_book():
    return torch.randn(CENTROIDS, CHANNELS, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / 'letkd'
    source.mkdir()
    for name, array in arrays().items():
        np.save(source / name, array)
    torch.save({'network._embedding.weight': code_book()}, source / 'quantiser.pth')
    return source


def plain_subclass_target(feature, label):
    """What the tables say about each position, in float64 and plain loops."""
    scalings, mean, centers, scores = (array.astype(np.float64) for array in arrays().values())
    count, _, height, width = feature.shape
    target = np.zeros((count, TEMPLATES, height, width))
    for n in range(count):
        for i in range(height):
            for j in range(width):
                z = (feature[n, :, i, j] - mean) @ scalings
                own = range(label[n] * SUBCLASSES, (label[n] + 1) * SUBCLASSES)
                distances = [((z[:COMPONENTS] - centers[k]) ** 2).sum() for k in own]
                target[n, :, i, j] = scores[own[int(np.argmin(distances))]]
    return target


def test_files_decide_as_the_tables_say(folder, tmp_path):
    written = convert_decisions(folder, tmp_path / 'out')
    assert [path.name for path in written] == ['inter.safetensors', 'penult.safetensors']
    feature = np.random.default_rng(1).normal(size=(4, CHANNELS, 3, 2)) + 3
    label = np.array([0, 2, 1, 2])

    inter = SubclassDecision.load(tmp_path / 'out' / 'inter.safetensors')
    assert (inter.num_classes, inter.num_subclasses) == (CLASSES, SUBCLASSES)
    target = inter.decide(torch.from_numpy(feature), torch.from_numpy(label))
    np.testing.assert_allclose(target, plain_subclass_target(feature, label), atol=1e-6)

    penult = CentroidDecision.load(tmp_path / 'out' / 'penult.safetensors')
    torch.testing.assert_close(penult.centroids, code_book())
    assert penult.provenance == {'source': 'letkd', 'files': ['quantiser.pth']}


def test_either_half_alone(folder, tmp_path):
    (folder / 'quantiser.pth').rename(tmp_path / 'quantiser.pth')
    assert [p.name for p in convert_decisions(folder, tmp_path / 'a')] == ['inter.safetensors']
    for path in folder.iterdir():
        path.unlink()
    torch.save({'network': {'_embedding.weight': code_book()}, 'epoch': 3}, folder / 'vq.pt')
    assert [p.name for p in convert_decisions(folder, tmp_path / 'b')] == ['penult.safetensors']


def test_other_checkpoints_beside_the_quantiser(folder, tmp_path):
    torch.save({'model': {'fc.weight': torch.zeros(3, 4)}}, folder / 'teacher.pth')
    (folder / 'student.pth').write_bytes(b'not for us')
    assert len(convert_decisions(folder, tmp_path / 'out')) == 2


def test_two_quantisers(folder, tmp_path):
    torch.save({'network._embedding.weight': code_book()}, folder / 'second.pth')
    with pytest.raises(DecisionFileError, match='quantiser.pth, second.pth all hold'):
        convert_decisions(folder, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_unsafe_quantiser(folder, tmp_path):
    torch.save(torch.nn.Embedding(2, 3), folder / 'quantiser.pth')
    with pytest.raises(CheckpointError, match='can run any code'):
        convert_decisions(folder, tmp_path / 'out')


def test_object_array_is_not_unpickled(folder, tmp_path):
    np.save(folder / 'lda_model_xbar.npy', np.array([{}, 1], dtype=object), allow_pickle=True)
    with pytest.raises(DecisionFileError, match='lda_model_xbar.npy: expected an array'):
        convert_decisions(folder, tmp_path / 'out')


def test_missing_table(folder, tmp_path):
    (folder / 'final_scores_8_lda.npy').unlink()
    with pytest.raises(DecisionFileError, match=r'one file final_scores_8\*\.npy .* found none'):
        convert_decisions(folder, tmp_path / 'out')


def test_two_versions_of_a_table(folder, tmp_path):
    np.save(folder / 'centers_subclass_8_old.npy', np.zeros((24, 2)))
    with pytest.raises(DecisionFileError, match='centers_subclass_8.npy, centers_subclass_8_old'):
        convert_decisions(folder, tmp_path / 'out')


def test_nothing_to_convert(tmp_path):
    with pytest.raises(DecisionFileError, match='expected a folder'):
        convert_decisions(tmp_path / 'nowhere', tmp_path / 'out')
    with pytest.raises(DecisionFileError, match='but found neither'):
        convert_decisions(tmp_path, tmp_path / 'out')


def nan_row(array):
    array[5] = np.nan
    return array


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        ('lda_model_scalings.npy', lambda a: a[:, :1], r'R of at least L=2 .* found \(5, 1\)'),
        ('lda_model_scalings.npy', lambda a: a[:4], r'D=5, R\) .* found \(4, 4\)'),
        ('lda_model_xbar.npy', lambda a: a[None], r'1 dimensions, but found shape \(1, 5\)'),
        ('centers_subclass_8.npy', lambda a: a[:23], r'M=8, but found \(23, 2\)'),
        ('centers_subclass_8.npy', lambda a: a.astype('U4'), 'of plain numbers'),
        ('final_scores_8_lda.npy', lambda a: a[:16], r'"decisions" must be \(24, 24\)'),
        ('final_scores_8_lda.npy', lambda a: a * 2, 'row .* must sum to 1|must sum to 1'),
        ('final_scores_8_lda.npy', nan_row, r'24 are not, in 1 rows \(the first is 5\)'),
    ],
)
def test_tables_that_do_not_fit(name, change, message, folder, tmp_path):
    np.save(folder / name, change(arrays()[name]))
    with pytest.raises(DecisionFileError, match=message) as raised:
        convert_decisions(folder, tmp_path / 'out')
    assert str(folder) in str(raised.value)
    assert not (tmp_path / 'out').exists()


def test_damaged_array(folder, tmp_path):
    content = (folder / 'centers_subclass_8.npy').read_bytes()
    (folder / 'centers_subclass_8.npy').write_bytes(content[:-7])
    with pytest.raises(DecisionFileError, match='cannot be read'):
        convert_decisions(folder, tmp_path / 'out')


def test_other_number_of_subclasses(folder, tmp_path):
    for name in ('centers_subclass_8', 'final_scores_8_lda'):
        (folder / f'{name}.npy').rename(folder / f'{name.replace("8", "4")}.npy')
    (path, _) = convert_decisions(folder, tmp_path / 'out', num_subclasses=4)
    assert SubclassDecision.load(path).num_classes == 6


def test_the_command(tmp_path, capsys):
    main = load_tool('convert_decisions').main
    book = np.arange(6.0).reshape(3, 2)
    torch.save({'network._embedding.weight': torch.from_numpy(book)}, tmp_path / 'vq.pth')
    main(['letkd', str(tmp_path), str(tmp_path / 'out')])
    assert 'penult.safetensors: CentroidDecision, 3 templates' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        main(['letkd', str(tmp_path / 'nowhere'), str(tmp_path / 'out')])
    assert capsys.readouterr().err.strip().startswith('error: ')
