"""The admin operations of each service, with one module for each noun."""

from collections.abc import Mapping
from typing import Any, Final

from shared.protocol.admin.accounts import *
from shared.protocol.admin.care import *
from shared.protocol.admin.claims import *
from shared.protocol.admin.commands import *
from shared.protocol.admin.configuration import *
from shared.protocol.admin.connections import *
from shared.protocol.admin.devices import *
from shared.protocol.admin.diagnostics import *
from shared.protocol.admin.encoding import *
from shared.protocol.admin.firmware import *
from shared.protocol.admin.fleet import *
from shared.protocol.admin.models import *
from shared.protocol.admin.names import *
from shared.protocol.admin.notifications import *
from shared.protocol.admin.operation import *
from shared.protocol.admin.operation import Operation
from shared.protocol.admin.rollouts import *
from shared.protocol.admin.rotation import *
from shared.protocol.admin.schedule import *
from shared.protocol.admin.secrets import *

OPERATIONS: Final[Mapping[str, Operation[Any, Any]]] = {
    name: thing for name, thing in list(globals().items()) if isinstance(thing, Operation)
}
"""All operations, by their names in Python."""
