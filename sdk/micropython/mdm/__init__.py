"""A device on MicroPython: identity, configuration, rotation of the secret, commands, firmware, log."""

from mdm.commands import Restart
from mdm.device import Device
from mdm.package import load
from mdm.storage import Files, Nvs, StorageError

__all__ = ("Device", "Files", "Nvs", "Restart", "StorageError", "load")
