"""Goes through a pickle with nothing of it made: what it asks for, and how large that would be."""

from __future__ import annotations

import _compat_pickle
import pickle
from typing import IO, Any

from mmkdlayer.compat.serialization import RefusedPickleError, state_of_type

#: Values in a tuple, those of tuples in it included, as often as they are in it.
LARGEST_TUPLE = 10**6


class Stub:
    """Stands for a class, a function, or what they would make."""

    def __init__(self, name: str = '', arguments: Any = None) -> None:
        self.name = name
        self.arguments = arguments

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """As lists and sets have it."""

    add = extend = append


_PythonUnpickler: Any = pickle._Unpickler  # the one in C has no parts


class Survey(_PythonUnpickler):
    """Python's unpickler, for which every class and function is a stub.

    Attributes:
        names: Full names of the classes and functions, as Python 3 has them.
        storages: What torch's pickles say of the numbers beside them: type, key, place, count.
    """

    dispatch = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding='latin1')
        self.names: list[str] = []
        self.storages: list[tuple] = []
        self._tuples: dict[int, tuple[int, tuple]] = {}

    def find_class(self, module_name: str, global_name: str) -> Stub:
        """Note a name."""
        pair = module_name, global_name
        # Protocol 2, which torch writes, has the names of Python 2.
        module, name = _compat_pickle.NAME_MAPPING.get(pair, pair)
        full = f'{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}'
        self.names.append(full)
        return Stub(full)

    def persistent_load(self, pid: Any) -> Stub:
        """Note a storage."""
        if isinstance(pid, tuple):
            self.storages.append(pid)
        return Stub()

    def get_extension(self, code: int) -> None:
        """Refuse what a process may register by number, and none does."""
        raise RefusedPickleError(f'it asks for the extension {code}')

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(Stub())

    def load_reduce(self) -> None:
        """A call of a function."""
        function, arguments = self.stack[-2:]
        self.stack[-2:] = [Stub(f'{getattr(function, "name", "")}()', arguments)]

    dispatch[pickle.REDUCE[0]] = dispatch[pickle.NEWOBJ[0]] = load_reduce

    def load_newobj_ex(self) -> None:
        """A new object, with keywords."""
        self.stack[-3:] = [Stub()]

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_build(self) -> None:
        """The state of an object: of numpy's types only what belongs to them.

        Raises:
            RefusedPickleError: It is another, which could make numpy take numbers for objects.
        """
        state, target = self.stack.pop(), self.stack[-1]
        if getattr(target, 'name', '') == 'numpy.dtype()':
            code = target.arguments[0] if isinstance(target.arguments, tuple) else None
            if not isinstance(code, str) or state != state_of_type(code):
                raise RefusedPickleError(f'it asks for a change of the type {code!r} of numpy')

    dispatch[pickle.BUILD[0]] = load_build

    def _weigh_tuple(self) -> None:
        """Refuse a tuple of tuples of ... the same tuple: going through it would not end."""
        found = self.stack[-1]
        size = len(found) + sum(
            self._tuples[id(item)][0] for item in found if item.__class__ is tuple
        )
        if size > LARGEST_TUPLE:
            raise RefusedPickleError(f'it holds a tuple of more than {LARGEST_TUPLE} values')
        self._tuples[id(found)] = size, found  # kept, so that its id stays its own

    def load_empty_tuple(self) -> None:
        """The empty tuple."""
        super().load_empty_tuple()
        self._weigh_tuple()

    def load_tuple(self) -> None:
        """A tuple of any length."""
        super().load_tuple()
        self._weigh_tuple()

    def load_tuple1(self) -> None:
        """A tuple of one."""
        super().load_tuple1()
        self._weigh_tuple()

    def load_tuple2(self) -> None:
        """A tuple of two."""
        super().load_tuple2()
        self._weigh_tuple()

    def load_tuple3(self) -> None:
        """A tuple of three."""
        super().load_tuple3()
        self._weigh_tuple()

    for _code, _load in (
        (pickle.EMPTY_TUPLE, load_empty_tuple),
        (pickle.TUPLE, load_tuple),
        (pickle.TUPLE1, load_tuple1),
        (pickle.TUPLE2, load_tuple2),
        (pickle.TUPLE3, load_tuple3),
    ):
        dispatch[_code[0]] = _load
