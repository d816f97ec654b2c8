"""The commands of ``tools/`` wherever the package is installed: ``python -m mmkdlayer COMMAND``."""

from __future__ import annotations

import ast
import difflib
import os
import runpy
import sys
from pathlib import Path

from .version import __version__

PACKAGE = Path(__file__).resolve().parent
#: In a wheel, and in a checkout.
FOLDERS = (PACKAGE / '.mim' / 'tools', PACKAGE.parent / 'tools')
#: What others of the scripts call, or only a checkout has a use for.
HELPERS = ('torchrun', 'slurm_run', 'setup_env', 'run_tests')


def main() -> None:
    """Run one of the commands, with the arguments that follow its name."""
    arguments = sys.argv[1:]
    commands = find_commands()
    if not arguments or arguments[0] in ('-h', '--help'):
        print(overview(commands))
        sys.exit(0 if arguments else 2)
    if arguments[0] == '--version':
        print(__version__)
        return
    name = arguments[0].replace('-', '_')
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=3, cutoff=0.5)
        near.sort(key=lambda command: not command.startswith(name))
        hint = f'Did you mean {" or ".join(near)}?' if near else f'There are {", ".join(commands)}.'
        print(f'python -m mmkdlayer: there is no command {arguments[0]!r}. {hint}', file=sys.stderr)
        sys.exit(2)
    run(commands[name], arguments[1:])


def find_commands() -> dict[str, Path]:
    """Return the script of each command, by the command's name."""
    folder = next((folder for folder in FOLDERS if (folder / 'train.py').is_file()), None)
    if folder is None:
        sys.exit(
            f'python -m mmkdlayer: expected the commands in {FOLDERS[0]}, but there are none. The '
            'installation is not whole: pip install --force-reinstall --no-deps mmkdlayer'
        )
    scripts = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix == '.sh'}
    # Of quickstart.sh and quickstart.py, the one that makes no environment.
    scripts.update({path.stem: path for path in sorted(folder.iterdir()) if path.suffix == '.py'})
    return {name: scripts[name] for name in sorted(scripts) if name not in HELPERS}


def overview(commands: dict[str, Path]) -> str:
    """Return a line on each command."""
    width = max(map(len, commands))
    lines = [f'  {name:{width}}  {summary(path)}' for name, path in commands.items()]
    head = 'usage: python -m mmkdlayer COMMAND [ARGUMENTS]\n       python -m mmkdlayer COMMAND --help\n'
    return '\n'.join([head, *lines])


def summary(path: Path) -> str:
    """Return the first line of what a script says of itself."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.py':
        return (ast.get_docstring(ast.parse(text)) or '').partition('\n')[0]
    return text.splitlines()[1].lstrip('# ')


def run(script: Path, arguments: list[str]) -> None:
    """Run a script as ``python SCRIPT`` or ``bash SCRIPT`` would."""
    if script.suffix == '.sh':
        os.environ.setdefault('PYTHON', sys.executable)
        try:
            os.execvp('bash', ['bash', str(script), *arguments])
        except FileNotFoundError:
            sys.exit(f'python -m mmkdlayer: {script.stem} needs bash, which is not installed here.')
    sys.argv[1:] = arguments
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name='__main__')


if __name__ == '__main__':
    main()
