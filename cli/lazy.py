"""Deferred imports: a module is loaded when it is first used, not to describe the commands that use it.

This is what `lazy import` of PEP 810 will do. importlib's LazyLoader does not suffice: it loads a module when an
import statement names it, which reads its `__spec__`. Import a deferred module as a whole, by `from cli import
client`: importing a name from it, by `from cli.client import Admin`, loads it.
"""

from __future__ import annotations

import sys
from importlib import import_module, util
from types import ModuleType


class _DeferredModule(ModuleType):
    """A module that is loaded when an attribute is read that it does not have yet."""

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        self.__class__ = ModuleType  # type: ignore[assignment] # it is loaded from here on
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module(self)
        return getattr(self, name)


def defer(*names: str) -> None:
    """Defer the import of each of these modules, unless it is loaded already."""
    for name in names:
        if name in sys.modules:
            continue
        spec = util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"no module named {name}", name=name)
        sys.modules[name] = module = util.module_from_spec(spec)
        module.__class__ = _DeferredModule
        package, _, last = name.rpartition(".")
        if package:
            setattr(import_module(package), last, module)
