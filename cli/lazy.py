"""Imports that wait: a module is loaded when something in it is used, not when a command is described that may.

It is what `lazy import` of PEP 810 will do; importlib's LazyLoader loads a module as soon as an import statement
names it, which reads its `__spec__`. The statements stay the usual ones, but for a module as a whole
(`from cli import client`): to import a name in it (`from cli.client import Admin`) is a use.
"""

from __future__ import annotations

import sys
from importlib import import_module, util
from types import ModuleType


class _Waiting(ModuleType):
    """A module that is loaded when it is asked for something that is not there yet."""

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        self.__class__ = ModuleType  # type: ignore[assignment] # what it is from now on
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module(self)
        return getattr(self, name)


def put_off(*names: str) -> None:
    """Let each of these modules wait, unless it is loaded already."""
    for name in names:
        if name in sys.modules:
            continue
        spec = util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"no module named {name}", name=name)
        sys.modules[name] = module = util.module_from_spec(spec)
        module.__class__ = _Waiting
        package, _, last = name.rpartition(".")
        if package:
            setattr(import_module(package), last, module)
