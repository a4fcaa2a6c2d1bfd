"""coterie's annotations checked at every call: types by beartype, shapes of tensors by jaxtyping.

As jaxtyping's own import hook does it, in a fraction of the time: parameters are checked once a call and not twice, and
beartype looks at a function when it is called first, at one within another once and not at each call of that other.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.machinery
import inspect
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

# An int is a float, as for mypy.
CONFIG = BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError)
# For code by its identity, since dataclasses make equal code for other types: what checks it, its names for that, and
# whether it has shapes.
MADE: dict[int, tuple[types.CodeType, Any, list[str], bool]] = {}
CONTEXT = jaxtyped("context")  # of a call, whose sizes it keeps apart from those of others


def install(packages: Sequence[str]) -> None:
    """Check what is imported of these packages from now on."""
    if sys.version_info < (3, 12):  # isinstance looks up what a protocol asks for each time, which later ones keep
        for name in ("_get_protocol_attrs", "_is_callable_members_only"):
            setattr(typing, name, functools.cache(getattr(typing, name)))
    sys.meta_path.insert(0, Finder(packages))  # type: ignore[arg-type]


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
        """Without the file of bytecode, which the unchecked module has."""
        tree = ast.parse(self.get_data(self.path), self.path)
        decorate(tree)
        return typing.cast(types.CodeType, compile(tree, self.path, "exec", dont_inherit=True))

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
    if inspect.isgeneratorfunction(given):  # whose call returns before its body is run
        return jaxtyped(given, typechecker=by_beartype)
    of_types, shapes = typed(given) if id(given.__code__) in MADE else (None, False)
    if of_types is given:  # there is nothing to check
        return given
    config, context, look = jaxtyping.config, CONTEXT, typed  # here, as globals are gone when Python ends

    @functools.wraps(given)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal of_types, shapes
        if config.jaxtyping_disable:
            return given(*args, **kwargs)
        if of_types is None:
            of_types, shapes = look(given)
        if not shapes:
            return of_types(*args, **kwargs)
        with context:  # sizes are compared within a call
            return of_types(*args, **kwargs)

    return call


def by_beartype(function: Any) -> Any:
    """What beartype makes of a function; Python cannot say whether a class keeps a protocol, so `type` must do."""
    given = function.__annotations__
    function.__annotations__ = {n: type if typing.get_origin(hint) is type else hint for n, hint in given.items()}
    return beartype(conf=CONFIG)(function)


def typed(function: Callable[..., Any]) -> tuple[Any, bool]:
    """The same, but once for all functions of this code; and whether an annotation has shapes."""
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
        blank.__annotations__ = hints_of(function)
        shapes = any(has_shapes(hint) for hint in blank.__annotations__.values())
        made = by_beartype(blank)
        calls = [name for name, value in (made.__kwdefaults__ or {}).items() if value is blank]
        MADE[id(code)] = code, made, calls, shapes
    _, made, calls, shapes = MADE[id(code)]  # beartype's code finds the function that it calls as a default of its own
    if not calls:  # there is nothing to check
        return function, False
    again = types.FunctionType(made.__code__, made.__globals__, function.__name__)
    again.__kwdefaults__ = {**made.__kwdefaults__, **dict.fromkeys(calls, function)}
    return again, shapes


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
