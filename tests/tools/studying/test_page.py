from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mmkdlayer.errors import DataError
from studying.page import write_page, write_tables


def run(row: str, seed: int, accuracy: float, flops: float = 41e6) -> dict[str, Any]:
    cost = dict(parameters=278324, folded_parameters=2783, flops=2 * flops, folded_flops=flops)
    curves = {'accuracy/top1': [[1, 10.0], [2, accuracy]], 'loss': [[1, 2.0], [2, 1.0]]}
    return dict(
        name=f'runs/{row}/seed{seed}',
        row=row,
        seed=seed,
        accuracy={'accuracy/top1': accuracy},
        step_seconds=0.05,
        steps=72000,
        cost=cost,
        curves=curves,
        wall_seconds=3600,
        attempts=1 + seed,
        environment=0,
    )


@pytest.fixture
def results() -> dict[str, Any]:
    values = dict(alone=[69.0, 70.0, 68.0], letkd2=[73.0, 73.5, 71.0])
    return dict(
        study='tiny',
        title='A & B',
        description='What <this> is.',
        metric='accuracy/top1',
        seeds=[0, 1, 2],
        comparisons=[['letkd2', 'alone']],
        rows=dict(alone=dict(label='alone'), letkd2=dict(label='let|KD', quoted=73.27)),
        teacher_rows=dict(big=dict(label='ResNet-56', quoted=72.34)),
        teachers=[dict(run('big', 0, 72.5), name='teachers/big')],
        preparations=[],
        runs=[run(row, seed, v) for row, found in values.items() for seed, v in enumerate(found)],
        planned=7,
        failed=[],
        environments=[
            dict(commit='abc', versions=dict(torch='2.1'), processor='CPU', threads=2, gpu=None)
        ],
        written='2026-01-01T00:00:00+00:00',
    )


def test_numbers_are_worked_out_from_the_runs(results: dict[str, Any], tmp_path: Path) -> None:
    write_page(results, tmp_path)
    page = (tmp_path / 'page.md').read_text()
    assert '| ResNet-56 | 72.50 | 72.34 | 0 |' in page
    ending = '278.32 k | 2.78 k | 82.00 M | 41.00 M | 50.0 | 60 min |'
    assert f'| alone | 69.00 ± 1.00 | 3 | – | {ending}' in page
    assert f'| let\\|KD | 72.50 ± 1.32 | 3 | 73.27 | {ending}' in page
    # Differences 4, 3.5, 3: 3.5 ± 4.3027 * 0.5 / sqrt(3).
    assert '| let\\|KD − alone | +3.50 | +2.26 to +4.74 | 3 | no |' in page
    assert 'runs/letkd2/seed2 (3)' in page
    assert 'Not complete' not in page
    html = (tmp_path / 'page.html').read_text()
    assert '<h1>A &amp; B</h1>' in html and '<p>What &lt;this&gt; is.</p>' in html
    assert html.count('<svg') == 3
    for name in ('flops', 'time', 'curves'):
        assert 'let|KD' in (tmp_path / 'plots' / f'{name}.svg').read_text()


def test_what_is_missing_is_said(results: dict[str, Any], tmp_path: Path) -> None:
    results['runs'] = [found for found in results['runs'] if found['row'] == 'alone'][:1]
    results['failed'] = [dict(name='runs/letkd2/seed0', reason='no disk\n# here')]
    write_page(results, tmp_path)
    page = (tmp_path / 'page.md').read_text()
    assert '**Not complete: 2 of 7 trainings are done.**' in page
    assert '**Failed: runs/letkd2/seed0**: no disk # here' in page
    assert '| alone | 69.00 | 1 |' in page and '| let\\|KD | – | 0 | 73.27 |' in page
    assert '| let\\|KD − alone | – | – | 0 | no seed has both |' in page
    assert '<b>Failed: runs/letkd2/seed0</b>' in (tmp_path / 'page.html').read_text()


def test_times_are_those_of_one_device(results: dict[str, Any], tmp_path: Path) -> None:
    results['environments'].append(dict(results['environments'][0], gpu='GPU'))
    for found in results['runs'][:4]:  # all of the first row, and one of the second
        found.update(environment=1, step_seconds=0.01)
    write_page(results, tmp_path)
    page = (tmp_path / 'page.md').read_text()
    assert 'Times are those of the 4 runs on GPU, without 2 on CPU with 2 threads.' in page
    assert page.count('41.00 M | 10.0 | 12 min |') == 2
    results['runs'][3].update(environment=0, step_seconds=0.05)
    write_page(results, tmp_path)
    page = (tmp_path / 'page.md').read_text()
    assert page.count('41.00 M | 50.0') == page.count('41.00 M | – | – |') == 1
    results['environments'][1].update(gpu=None, threads=1)
    write_page(results, tmp_path)
    page = (tmp_path / 'page.md').read_text()
    assert 'Times are those of the 3 runs on CPU with 1 threads, without 3 on' in page


def test_groups_that_are_compared_share_their_plots(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results['rows']['alone']['group'], results['rows']['letkd2']['group'] = 'baseline', 'ours'
    write_page(results, tmp_path)
    page = (tmp_path / 'page.md').read_text()
    assert page.count('### ') == 2 and page.count('![') == 3
    results['comparisons'] = []
    write_page(results, tmp_path)
    assert (tmp_path / 'page.md').read_text().count('![') == 6


def test_tables_replace_those_of_a_readme(results: dict[str, Any], tmp_path: Path) -> None:
    readme = tmp_path / 'README.md'
    readme.write_text('# Title\n')
    with pytest.raises(DataError, match='begin study tiny'):
        write_tables(results, readme)
    readme.write_text('# Title\n<!-- begin study tiny -->\nbefore\n<!-- end study tiny -->\nrest\n')
    for _ in range(2):
        write_tables(results, readme)
        text = readme.read_text()
        assert text.startswith('# Title\n<!-- begin') and text.endswith(
            '<!-- end study tiny -->\nrest\n'
        )
        assert 'before' not in text
        assert '| let\\|KD | 72.50 ± 1.32 | 3 | 73.27 | 2.78 k | 41.00 M |' in text
        assert len(re.findall(r'\| no \|', text)) == 1
    results['runs'] = results['runs'][:3]
    write_tables(results, readme)
    text = readme.read_text()
    assert '**Not complete: 4 of 7 trainings are done.**' in text
    assert '| alone | 69.00' in text and 'KD |' not in text and 'difference' not in text


def test_tables_of_the_rows_that_a_readme_names(results: dict[str, Any], tmp_path: Path) -> None:
    readme = tmp_path / 'README.md'
    begin, end = '<!-- begin study tiny: letkd2 -->', '<!-- end study tiny -->'
    readme.write_text(f'{begin}\n{end}\n')
    write_tables(results, readme)
    text = readme.read_text()
    assert text.startswith(begin) and text.endswith(f'{end}\n')
    assert 'let\\|KD | 72.50' in text and '| alone |' not in text and 'difference' not in text
    readme.write_text(f'{begin.replace("letkd2", "letkd2 alone")}\n{end}\n')
    write_tables(results, readme)
    assert '| alone | 69.00' in readme.read_text() and '| difference |' in readme.read_text()
    readme.write_text(f'{begin.replace("letkd2", "letkd2 kd")}\n{end}\n')
    with pytest.raises(DataError, match='tiny: letkd2 kd --> names kd; the rows are alone, letkd2'):
        write_tables(results, readme)


def test_the_rest_of_a_file_with_tables_stays(results: dict[str, Any], tmp_path: Path) -> None:
    real, link = tmp_path / 'real.md', tmp_path / 'README.md'
    link.symlink_to(real)
    real.write_bytes(b'a\r\n<!-- begin study tiny -->\r\n<!-- end study tiny -->\r\nb\r\n')
    write_tables(results, link)
    assert link.is_symlink()
    written = real.read_bytes()
    assert written.count(b'\n') == written.count(b'\r\n') > 6
    real.write_bytes(b'\xe9')
    with pytest.raises(DataError, match='expected text in UTF-8'):
        write_tables(results, link)
