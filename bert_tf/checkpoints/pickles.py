"""Pickles of weights, read without executing what is in them.

A pickle is a program for a small machine with a stack. Python's own machine builds whatever the
program says: a key of 2^60 shared tuples, which takes years to hash, or a value nested so deeply
that C's stack overflows. The machine here knows the few operations that state dicts consist of,
and counts them. Keys are text or numbers, so nothing else is ever hashed or compared.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from bert_tf.checkpoints.limits import Allowance, RefusedError

_MAX_OPERATIONS = 500_000  # a tensor takes about 30, a large model has 1,000
_MAX_BITS = 128  # of an integer; PyTorch's magic number has 77
_MAX_ARGUMENTS = 16

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"})
_VALUES = frozenset(
    {
        *("FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    }
)
_STRINGS = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING"})  # Python 2's
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_SMALL_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class UnsafePickleError(RefusedError):
    """The file wants to call something that no set of weights needs."""


class Function:
    """A global that a pickle may call, with a few arguments."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]):
        self.call = call


class Built:
    """What a pickle makes in two steps: a call, then `build` with its state."""

    def build(self, state: Any) -> None:
        """Take the state, which may be anything."""
        raise NotImplementedError


class Machine:
    """Runs the pickles of one file.

    Args:
      allowed: the globals, by module and name; any other is refused before anything is called.
      allowance: what text and bytes that calls are given count against.
      encoding: of Python 2's strings.
      persistent: the object that a persistent id stands for.
    """

    def __init__(
        self,
        allowed: Mapping[tuple[str, str], Any],
        allowance: Allowance,
        encoding: str,
        persistent: Callable[[Any], Any] | None = None,
    ):
        self._allowed = allowed
        self._allowance = allowance
        self._encoding = encoding
        self._persistent = persistent
        self._operations = 0
        self._clear()

    def _clear(self) -> None:
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}

    def load(self, file: Any) -> Any:
        """Return what the next pickle in `file` makes. Raises nearly anything if it is broken."""
        self._clear()
        for opcode, argument, _ in pickletools.genops(file):
            self._count(1)
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name in _PUTS and argument > file.tell():
                raise ValueError(f"opcode {opcode.name} with index {argument:.3g}")
            self._run(opcode.name, argument)
        raise ValueError("it has no end")

    def _count(self, operations: int) -> None:
        self._operations += operations
        if self._operations > _MAX_OPERATIONS:
            raise ValueError(f"it takes more than {_MAX_OPERATIONS} operations")

    def _run(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _NUMBERS:
            if argument.bit_length() > _MAX_BITS:
                raise ValueError(f"a whole number of {argument.bit_length()} bits")
            stack.append(argument)
        elif name in _VALUES:
            stack.append(argument)
        elif name in _STRINGS:
            stack.append(argument.encode("latin1").decode(self._encoding))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _SMALL_TUPLES:
            count = _SMALL_TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in _PUTS:
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _GETS:
            stack.append(self._memo[argument])
        elif name not in ("PROTO", "FRAME"):
            handler = _HANDLERS.get(name)
            if handler is None:
                raise ValueError(f"opcode {name}, which no set of weights needs")
            handler(self, argument)

    def _mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _above_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _tuple(self, _: Any) -> None:
        items = tuple(self._above_mark())
        self._stack.append(items)

    def _append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._above_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ValueError("items for what is no list")
        self._stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _setitems(self, _: Any) -> None:
        self._update(self._above_mark())

    def _update(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not dict:
            raise ValueError("items for what is no dictionary")
        self._stack[-1].update(_dictionary(zip(items[::2], items[1::2], strict=True)))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._find(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a global that is not named by text")
        self._find(module, name)

    def _find(self, module: str, name: str) -> None:
        try:
            self._stack.append(self._allowed[module, name])
        except KeyError:
            raise UnsafePickleError(
                f"it asks for {f'{module}.{name}':.80}, which no set of weights needs, so nothing "
                "in it was run; give weights from a source you trust, best as model.safetensors"
            ) from None

    def _reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Function) or type(arguments) is not tuple:
            raise ValueError("a call of what is no function")
        if len(arguments) > _MAX_ARGUMENTS:
            raise ValueError(f"a call with {len(arguments)} arguments")
        for argument in arguments:  # a call may copy what it is given
            if isinstance(argument, tuple | list | dict):
                self._count(len(argument))
            elif isinstance(argument, str | bytes):
                self._allowance.take(len(argument))
        self._stack.append(function.call(*arguments))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Built):
            self._stack[-1].build(state)
        elif type(self._stack[-1]) is not dict:  # whose attributes are versions of modules
            raise ValueError("a state for what has none")

    def _persistent_id(self, _: Any) -> None:
        if self._persistent is None:
            raise ValueError("an object of another file")
        self._stack.append(self._persistent(self._stack.pop()))


_HANDLERS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "TUPLE": Machine._tuple,
    "APPEND": Machine._append,
    "APPENDS": Machine._appends,
    "SETITEM": Machine._setitem,
    "SETITEMS": Machine._setitems,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent_id,
}


def _dictionary(pairs: Any) -> dict[str | int, Any]:
    result: dict[str | int, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str | int):
            raise ValueError("a key that is neither text nor a number")
        result[key] = value
    return result


def _ordered_dict(pairs: Any = ()) -> dict[str | int, Any]:
    if not isinstance(pairs, tuple | list) or any(
        not isinstance(pair, tuple | list) or len(pair) != 2 for pair in pairs
    ):
        raise ValueError("a dictionary of what are no pairs")
    return _dictionary(pairs)


ORDERED_DICT = Function(_ordered_dict)
