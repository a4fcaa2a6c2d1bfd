"""coterie's annotations checked at every call: types by beartype, shapes of tensors by jaxtyping.

As jaxtyping's own import hook does it, in a fraction of the time: parameters are checked once a call and not twice,
beartype looks at a function when it is called first, at one within another once and not at each call of that other, and
types, dtypes and shapes that were right are not compared again.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib.machinery
import importlib.util
import inspect
import marshal
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped
from torch import Tensor

# An int is a float, as for mypy.
CONFIG = BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError)
# For code by its identity, since dataclasses make equal code for other types: what checks it.
MADE: dict[int, Made] = {}
OWN = importlib.util.source_hash(Path(__file__).read_bytes())  # of what made a file of bytecode
CONTEXT = jaxtyped("context")  # of a call, whose sizes it keeps apart from those of others


@dataclasses.dataclass(frozen=True)
class Made:
    """What beartype made for a function: it finds the function that it calls under `names` among its own defaults."""

    code: types.CodeType
    checks: Any
    names: list[str]
    shapes: bool
    # The forms of arguments that were right and of what was returned then; None where they do not say all.
    right: dict[Any, set[Any]] | None

    def around(self, function: Any) -> Any:
        again = types.FunctionType(self.checks.__code__, self.checks.__globals__, function.__name__)
        again.__kwdefaults__ = {**self.checks.__kwdefaults__, **dict.fromkeys(self.names, function)}
        return again


def install(packages: Sequence[str]) -> None:
    """Check what is imported of these packages from now on."""
    if sys.version_info < (3, 12):  # isinstance looks up what a protocol asks for each time, which later ones keep
        for name in ("_get_protocol_attrs", "_is_callable_members_only"):
            setattr(typing, name, functools.cache(getattr(typing, name)))
        keep_protocols()
    sys.meta_path.insert(0, Finder(packages))  # type: ignore[arg-type]


def keep_protocols() -> None:
    """Look for a protocol's members in one instance of a dataclass: all others have the same fields and methods."""
    meta: Any = type(typing.Protocol)
    look, kept = meta.__instancecheck__, set[tuple[type, type]]()

    def instancecheck(protocol: Any, instance: Any) -> bool:
        pair = (protocol, type(instance))
        if pair in kept:
            return True
        found: bool = look(protocol, instance)
        if found and dataclasses.is_dataclass(instance):
            kept.add(pair)
        return found

    meta.__instancecheck__ = instancecheck


class Finder:
    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if not any(name == package or name.startswith(f"{package}.") for package in self.packages):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


class Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> types.CodeType:
        """With a file of bytecode beside that of the unchecked module."""
        source = self.get_data(self.path)
        stamp = importlib.util.MAGIC_NUMBER + OWN + importlib.util.source_hash(source) + self.path.encode() + b"\n"
        place = importlib.util.cache_from_source(self.path, optimization="checked")
        with contextlib.suppress(OSError):
            kept = self.get_data(place)
            if kept.startswith(stamp):
                return typing.cast(types.CodeType, marshal.loads(kept[len(stamp) :]))
        tree = ast.parse(source, self.path)
        decorate(tree)
        code = typing.cast(types.CodeType, compile(tree, self.path, "exec", dont_inherit=True))
        if not sys.dont_write_bytecode:
            self.set_data(place, stamp + marshal.dumps(code))
        return code

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__checked__"] = checked
        super().exec_module(module)


def decorate(node: Any) -> None:
    """Put `__checked__` at every function and class within a statement, or whatever holds statements."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        decorator = ast.copy_location(ast.Name("__checked__", ast.Load()), node)
        node.decorator_list.insert(0 if isinstance(node, ast.ClassDef) else len(node.decorator_list), decorator)
    for field in ("body", "orelse", "handlers", "finalbody", "cases"):
        inside = getattr(node, field, None)
        for one in inside if isinstance(inside, list) else ():  # of a lambda it is an expression
            decorate(one)


def checked(given: Any) -> Any:
    """A function that checks what it is called with and returns; of a class, the `__init__` that dataclasses made."""
    if isinstance(given, type):
        made = vars(given).get("__init__")
        if dataclasses.is_dataclass(given) and made is not None and not hasattr(made, "__wrapped__"):
            given.__init__ = checked(made)  # type: ignore[misc]
        return given
    if given.__name__ == "__torch_function__":  # which torch alone calls, hundreds of times for a net
        return given
    if inspect.isgeneratorfunction(given):  # whose call returns before its body is run
        return jaxtyped(given, typechecker=by_beartype)
    made = MADE.get(id(given.__code__))
    if made is not None and not made.names:  # there is nothing to check
        return given
    of_types = None if made is None else made.around(given)
    # Here, as globals are gone when Python ends.
    config, context, look, form = jaxtyping.config, CONTEXT, typed, form_of

    @functools.wraps(given)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal of_types, made
        if config.jaxtyping_disable:
            return given(*args, **kwargs)
        if made is None or of_types is None:
            made = look(given)
            of_types = made.around(given) if made.names else given
        if not made.shapes:
            return of_types(*args, **kwargs)
        if made.right is None:
            with context:  # sizes are compared within a call
                return of_types(*args, **kwargs)
        key = form((args, *kwargs, *kwargs.values()))
        before = made.right.get(key)
        if before is None:
            with context:
                result = of_types(*args, **kwargs)
            made.right[key] = {form(result)}
            return result
        result = given(*args, **kwargs)
        if (returned := form(result)) not in before:
            with context:
                made.around(lambda *args, **kwargs: result)(*args, **kwargs)
            before.add(returned)
        return result

    return call


def form_of(value: Any) -> Any:
    """All that a `plain` annotation looks at: of arrays type, dtype and shape, of text the text, of others the type."""
    kind = type(value)
    if isinstance(value, tuple):
        return (kind, *map(form_of, value))
    if isinstance(value, str):
        return kind, value
    return (kind, value.dtype, value.shape) if isinstance(value, Tensor) else kind


def plain(hint: Any) -> bool:
    """Whether `form_of` a value says if it is of this annotation, whatever it holds."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return all(isinstance(part, str) for part in parts)
    if typing.get_origin(hint) in (tuple, typing.Union, types.UnionType):
        return ... not in parts and all(map(plain, parts))
    if not isinstance(hint, type) or parts:
        return hint is Any
    if issubclass(hint, jaxtyping.AbstractArray):
        return hint.array_type is Tensor
    return not getattr(hint, "_is_protocol", False)  # which may look at what a value holds


def by_beartype(function: Any) -> Any:
    """What beartype makes of a function; Python cannot say whether a class keeps a protocol, so `type` must do."""
    given = function.__annotations__
    function.__annotations__ = {n: type if typing.get_origin(hint) is type else hint for n, hint in given.items()}
    return beartype(conf=CONFIG)(function)


def typed(function: Callable[..., Any]) -> Made:
    """What checks a function; made once for all functions of this code."""
    code = function.__code__
    if id(code) not in MADE:
        # Of one that closes over nothing, which would be kept with it.
        blank = types.FunctionType(
            code,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple(types.CellType() for _ in code.co_freevars),
        )
        blank.__kwdefaults__ = function.__kwdefaults__
        blank.__module__, blank.__qualname__ = function.__module__, function.__qualname__
        blank.__annotations__ = hints = hints_of(function)
        made = by_beartype(blank)
        names = [name for name, value in (made.__kwdefaults__ or {}).items() if value is blank]
        shapes = bool(names) and any(map(has_shapes, hints.values()))
        MADE[id(code)] = Made(code, made, names, shapes, {} if all(map(plain, hints.values())) else None)
    return MADE[id(code)]


def has_shapes(hint: Any) -> bool:
    """Whether it is a type of jaxtyping, or holds one."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    inside = [*typing.get_args(hint), *(getattr(hint, "__metadata__", ()))]
    return any(map(has_shapes, [part for one in inside for part in (one if isinstance(one, list) else [one])]))


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as objects; Any in place of one that names what is imported for mypy alone."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        return {name: hint_of(given, function) for name, given in function.__annotations__.items()}


def hint_of(given: Any, function: Any) -> Any:
    def alone() -> None: ...

    alone.__annotations__ = {"one": given}
    try:
        return typing.get_type_hints(alone, function.__globals__, include_extras=True)["one"]
    except Exception:
        return Any
