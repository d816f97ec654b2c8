from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent


def read_requirements(name: str) -> list[str]:
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def read_version() -> str:
    # Executed, not imported: importing the package needs torch.
    content: dict[str, str] = {}
    exec((ROOT / 'mmkdlayer' / 'version.py').read_text(encoding='utf-8'), content)
    return content['__version__']


def read_readme() -> str:
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.is_file() else ''


class BuildWithMim(build_py):
    """Puts configs, commands and model index into ``mmkdlayer/.mim``, where ``mim`` looks for them."""

    def run(self) -> None:
        super().run()
        editable = getattr(self, 'editable_mode', False)
        folder = (ROOT if editable else Path(self.build_lib)) / 'mmkdlayer' / '.mim'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ('configs', 'tools', 'model-index.yml'):
            if editable:
                try:  # so that what was edited is what is found
                    (folder / name).symlink_to(Path('..', '..', name))
                    continue
                except OSError:  # a system without symbolic links
                    pass
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=NOT_IN_WHEEL)
            else:
                shutil.copy(ROOT / name, folder / name)


# What makes environments for a checkout has no use without one.
NOT_IN_WHEEL = shutil.ignore_patterns(
    '__pycache__', '.*', 'setup_env.sh', 'run_tests.sh', 'quickstart.sh'
)


class EditableByPath(editable_wheel):
    """An editable install that puts the checkout on Python's path, and shows it to ``mim``."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # Else a folder called mmkdlayer beside a script, such as the checkout, hides the package.
        self.mode = self.mode or 'compat'

    def _install_namespaces(self, installation_dir: str, pth_prefix: str) -> None:
        super()._install_namespaces(installation_dir, pth_prefix)
        # mim looks in site-packages, whatever is imported. Without __init__.py this folder is no
        # package, and Python goes on to the checkout.
        folder = Path(installation_dir, 'mmkdlayer', '.mim')
        for name in ('model-index.yml', 'configs/kdlayer/metafile.yml'):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / 'tools').mkdir()
        # Also since pip removes no folder without a file of its own.
        (folder.parent / 'README').write_text(f'mmkdlayer is in {ROOT}\n', encoding='utf-8')
        for script in (ROOT / 'tools').glob('*.py'):
            (folder / 'tools' / script.name).write_text(
                'import sys\n\nfrom mmkdlayer.__main__ import main\n\n'
                f'sys.argv.insert(1, {script.stem!r})\nmain()\n',
                encoding='utf-8',
            )


NAMES = ('deploy', 'report', 'teachers', 'tensorboard', 'tests', 'browser', 'dev', 'docs')
EXTRAS = {name: read_requirements(name) for name in NAMES}
EXTRAS['triton'] = read_requirements('triton')
OPENMMLAB = read_requirements('openmmlab')
EXTRAS['distill'] = OPENMMLAB + read_requirements('distill')
EXTRAS['onedl'] = read_requirements('onedl') + read_requirements('distill')
# What an exported student needs; with mmcv-lite, which would overwrite the files of an installed mmcv.
EXTRAS['lite'] = OPENMMLAB + read_requirements('lite')
EXTRAS['all'] = sum((EXTRAS[name] for name in ('distill', *NAMES)), [])

setup(
    name='mmkdlayer',
    version=read_version(),
    description='Learnable KD layers (letKD) for mmrazor and mmpretrain',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='knowledge distillation, image classification, mmrazor, mmpretrain, letKD',
    packages=find_packages(include=['mmkdlayer', 'mmkdlayer.*']),
    package_data={'mmkdlayer.report': ['template/*']},
    cmdclass=dict(build_py=BuildWithMim, editable_wheel=EditableByPath),
    python_requires='>=3.9',
    install_requires=read_requirements('runtime'),
    extras_require=EXTRAS,
    classifiers=[
        'Development Status :: 4 - Beta',
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    zip_safe=False,
)
