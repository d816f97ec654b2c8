"""What somebody has who only has the wheel: every command, config and launcher, outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from command_line import ROOT, TINY, write_images
from modelindex.load_model_index import load

pytestmark = pytest.mark.slow

#: What a wheel is built of; the checkout itself would be left with a folder build/.
SOURCES = (
    *('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'model-index.yml'),
    *('requirements', 'mmkdlayer', 'configs', 'tools'),
)
CONFIG = "_base_ = 'mmkdlayer::kdlayer/folder_example.py'\n"


class Installed:
    """An environment with this project's wheel, and beside it the packages of the tests' own."""

    def __init__(self, folder: Path, *install: str) -> None:
        self.folder = folder
        venv.create(folder / 'venv', with_pip=False, symlinks=True)
        self.python = folder / 'venv' / 'bin' / 'python'
        self.packages = Path(
            self.run('-c', 'import sysconfig; print(sysconfig.get_path("purelib"))')
        )
        hosts = dict.fromkeys([sysconfig.get_path('purelib'), sysconfig.get_path('platlib')])
        (self.packages / 'hosts.pth').write_text('\n'.join(hosts))
        pip = [sys.executable, '-m', 'pip', '--python', str(self.python), 'install', '--quiet']
        # Ignored: this project among the packages of the tests' own environment.
        options = ['--no-deps', '--no-build-isolation', '--ignore-installed']
        subprocess.run([*pip, *options, *install], check=True)

    def run(self, *arguments: str | Path, code: int = 0, **environment: str) -> str:
        """Run this environment's python in its folder; return standard output, or both on failure."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith('PYTHON')}
        done = subprocess.run(
            [str(self.python), *map(str, arguments)],
            cwd=self.folder,
            env={**kept, 'OMP_NUM_THREADS': '1', **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-5000:]
        return (done.stdout if code == 0 else done.stdout + done.stderr).strip()

    def command(self, *arguments: str | Path, code: int = 0) -> str:
        return self.run('-W', 'ignore', '-m', 'mmkdlayer', *arguments, code=code)


@pytest.fixture(scope='module')
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('sources')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns('__pycache__', '.mim')
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def installed(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp('wheel')
    pip = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation']
    subprocess.run([*pip, '--wheel-dir', str(folder), str(sources)], check=True)
    installed = Installed(folder, str(next(folder.glob('mmkdlayer-*.whl'))))
    (folder / 'mine.py').write_text(CONFIG)
    write_images(folder / 'data')
    return installed


@pytest.fixture(scope='module')
def trained(installed: Installed) -> Path:
    """The work dir of a training by ``python -m mmkdlayer dist_train``, on a config of the package."""
    options = [f'{key}={value}' for key, value in TINY.items()]
    options += ['model.teacher_ckpt=None', 'model.teacher.init_cfg=None', 'log_level=WARNING']
    work = installed.folder / 'work'
    installed.command(
        *('dist_train', 'mine.py', '1', '--data-root', 'data', '--work-dir', work),
        *('--cfg-options', *options),
    )
    return work


def test_the_package_is_that_of_the_wheel(installed: Installed) -> None:
    found = installed.run('-W', 'ignore', '-c', 'import mmkdlayer; print(mmkdlayer.__file__)')
    assert Path(found).parents[1].resolve() == installed.packages.resolve()


def test_the_wheel_has_what_mim_looks_for(installed: Installed) -> None:
    folder = installed.packages / 'mmkdlayer' / '.mim'
    shipped = {path.name for path in (folder / 'tools').iterdir()}
    assert {'train.py', 'test.py', 'dist_train.sh', 'slurm_train.sh', 'cli'} <= shipped
    assert not {'setup_env.sh', 'run_tests.sh', 'quickstart.sh'} & shipped
    index = load(str(folder / 'model-index.yml'))
    index.build_models_with_collections()
    assert len(index.models) > 30
    assert all((folder / model.config).is_file() for model in index.models)
    # "mim download" shows this; without it there is a KeyError.
    assert all('no weights are published' in model.weights for model in index.models)


def test_commands_answer_outside_the_checkout(installed: Installed) -> None:
    listed = installed.command('--help')
    for name in ('convert_teacher', 'export_student', 'fit_decisions', 'make_config', 'test'):
        assert f'\n  {name} ' in listed
    assert 'usage: make_config.py' in installed.command('make-config', '--help')
    assert 'Did you mean train' in installed.command('trian', code=2)


def test_a_config_of_the_package_is_trained_tested_and_exported(
    installed: Installed, trained: Path
) -> None:
    checkpoint = trained / 'epoch_1.pth'
    config = next(trained.glob('*.py'))
    installed.command('test', config, checkpoint, '--out', 'metrics.json')
    assert 'accuracy/top1' in json.loads((installed.folder / 'metrics.json').read_text())
    installed.command('export_student', config, checkpoint, '--out', 'student')
    code = (
        'import mmkdlayer, torch; model = mmkdlayer.load_student("student");'
        'print(tuple(model(torch.zeros(2, 3, 16, 16)).shape))'
    )
    assert installed.run('-W', 'ignore', '-c', code) == '(2, 3)'


def test_mim_starts_the_training_script_of_the_package(installed: Installed) -> None:
    # As "mim train mmkdlayer CONFIG" does: the script by its path, and --launcher none.
    script = installed.packages / 'mmkdlayer' / '.mim' / 'tools' / 'train.py'
    error = installed.run(
        *('-W', 'ignore', script, 'mine.py', '--launcher', 'none', '--data-root', 'nowhere'), code=2
    )
    assert 'nowhere' in error
    assert 'Traceback' not in error


def test_an_editable_install_shows_the_checkout_to_mim(sources: Path, tmp_path: Path) -> None:
    checkout = Path(shutil.copytree(sources, tmp_path / 'checkout'))
    installed = Installed(tmp_path, '--editable', str(checkout))
    # A folder of this name beside the script does not hide the package.
    (tmp_path / 'mmkdlayer').mkdir()
    code = 'import mmkdlayer; print(mmkdlayer.__file__)'
    file = installed.run('-W', 'ignore', '-c', code)
    assert Path(file).resolve() == (checkout / 'mmkdlayer' / '__init__.py').resolve()
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (checkout / 'mmkdlayer' / '.mim' / name).resolve() == (checkout / name).resolve()
    # mim takes the folder beside the metadata, in site-packages.
    folder = installed.packages / 'mmkdlayer' / '.mim'
    assert len(load(str(folder / 'model-index.yml')).models) > 30
    script = checkout / 'tools' / 'test.py'
    script.write_text('import sys\n\nprint("edited", *sys.argv[1:])\n')
    shown = installed.run(
        '-W', 'ignore', folder / 'tools' / 'test.py', 'CONFIG', '--launcher', 'none'
    )
    assert shown == 'edited CONFIG --launcher none'
    # Nothing of it stays.
    pip = [sys.executable, '-m', 'pip', '--python', str(installed.python), 'uninstall', '--yes']
    subprocess.run([*pip, '--quiet', 'mmkdlayer'], check=True)
    assert not list(installed.packages.glob('*mmkdlayer*'))
