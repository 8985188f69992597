"""The admin's operations: what a command line may ask of which service, declared once, a module for each noun."""

from collections.abc import Mapping
from typing import Any, Final

from shared.admin.accounts import *
from shared.admin.care import *
from shared.admin.claims import *
from shared.admin.commands import *
from shared.admin.configuration import *
from shared.admin.devices import *
from shared.admin.diagnostics import *
from shared.admin.encoding import *
from shared.admin.firmware import *
from shared.admin.fleet import *
from shared.admin.models import *
from shared.admin.names import *
from shared.admin.operation import *
from shared.admin.operation import Operation
from shared.admin.rollouts import *
from shared.admin.rotation import *
from shared.admin.schedule import *
from shared.admin.secrets import *

OPERATIONS: Final[Mapping[str, Operation[Any, Any]]] = {
    name: thing for name, thing in list(globals().items()) if isinstance(thing, Operation)
}
"""All operations, by the names that they have in Python."""
