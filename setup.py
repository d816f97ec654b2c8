from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

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


class BuildWithConfigs(build_py):
    """Puts the configs and the model index into ``mmkdlayer/.mim``, where ``mim`` looks for them."""

    def run(self) -> None:
        super().run()
        editable = getattr(self, 'editable_mode', False)
        folder = (ROOT if editable else Path(self.build_lib)) / 'mmkdlayer' / '.mim'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ('configs', 'model-index.yml'):
            if editable:
                try:  # so that edited configs are the ones that are found
                    (folder / name).symlink_to(Path('..', '..', name))
                    continue
                except OSError:  # a system without symbolic links
                    pass
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)


NAMES = ('distill', 'deploy', 'tests', 'dev', 'docs')
EXTRAS = {name: read_requirements(name) for name in (*NAMES, 'lite')}
# Without lite, which would overwrite the files of an installed mmcv.
EXTRAS['all'] = sum((EXTRAS[name] for name in NAMES), [])

setup(
    name='mmkdlayer',
    version=read_version(),
    description='Learnable KD layers (letKD) for mmrazor and mmpretrain',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='knowledge distillation, image classification, mmrazor, mmpretrain, letKD',
    packages=find_packages(include=['mmkdlayer', 'mmkdlayer.*']),
    cmdclass=dict(build_py=BuildWithConfigs),
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
