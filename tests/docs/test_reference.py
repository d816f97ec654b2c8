"""The reference names every key, option, command and version that there is."""

from __future__ import annotations

import inspect
import re

import pytest
from pages import ROOT

import mmkdlayer
from mmkdlayer import models
from mmkdlayer.engine import hooks
from mmkdlayer.models.kd_layer_options import KEYS

CONFIG = (ROOT / 'docs' / 'reference' / 'config.md').read_text()
COMMANDS = (ROOT / 'docs' / 'reference' / 'commands.md').read_text()


def rows(section: str) -> dict[str, str]:
    """First column of a section's tables, and the rest of the line."""
    text = CONFIG.split(f'\n## {section}\n')[1].split('\n## ')[0]
    return dict(re.findall(r'^\| `(\w+)`(?: of \S+)? \|(.*)$', text, re.MULTILINE))


def test_every_key_of_a_kd_layer_has_a_row() -> None:
    assert tuple(rows('kd_layers')) == KEYS


@pytest.mark.parametrize(
    'section, kind, not_there',
    [
        ('Decisions', 'SubclassDecision', set()),
        ('Decisions', 'CentroidDecision', set()),
        ('The layer', 'KDLayerConnector', {'in_channels', 'num_templates', 'alpha'}),
        ('The distiller', 'KDLayerDistiller', {'kwargs'}),
    ],
)
def test_every_option_has_a_row_with_its_default(section, kind, not_there) -> None:
    found = rows(section)
    for name, option in inspect.signature(getattr(models, kind)).parameters.items():
        if name in not_there:
            continue
        default = option.default
        if default is inspect.Parameter.empty:
            default = 'required'
        elif default is None:
            default = 'none'
        assert str(default) in found[name].split('|')[0].replace("'", ''), name


def test_every_hook_has_a_row() -> None:
    assert set(rows('Hooks')) == {*hooks.__all__, 'ReportHook'}


def test_every_command_has_its_help() -> None:
    shown = set(re.findall(r'^```\{command-help\} (\S+)$', COMMANDS, re.MULTILINE))
    commands = {f'tools/{path.name}' for path in (ROOT / 'tools').glob('*.py')}
    assert shown == commands - {'tools/quickstart.py'}
    scripts = {path.name for path in (ROOT / 'tools').glob('*.sh')}
    assert scripts == set(re.findall(r'tools/(\w+\.sh)', COMMANDS))


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert first is not None and first[1] == mmkdlayer.__version__


def test_python_versions_are_the_same_everywhere() -> None:
    versions = [f'3.{minor}' for minor in range(9, 14)]
    setup = (ROOT / 'setup.py').read_text()
    assert re.findall(r'Python :: (3\.\d+)', setup) == versions
    assert f"python_requires='>={versions[0]}'" in setup
    assert ' | '.join(versions) + ')' in (ROOT / 'tools' / 'setup_env.sh').read_text()
    workflow = (ROOT / '.github' / 'workflows' / 'tests.yml').read_text()
    assert f'python: {versions}'.replace("'", '"') in workflow
    for page in ('README.md', 'docs/install.md'):
        assert f'Python {versions[0]} to {versions[-1]}' in (ROOT / page).read_text()
