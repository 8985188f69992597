"""Commands: each is executed at most once, and its result is sent until the broker has it."""

from mdm.clock import seconds
from mdm.storage import dumps

_KEPT = 32
_RESULT_MAX = 2048


class Restart(Exception):  # noqa: N818 - it is no error
    """Raised by a command that restarts the device once the broker has its result."""


class Commands:
    """The last 32 commands in the record `commands`, oldest first.

    Each has its `result` as it is sent, and whether it is `said`: then the broker has it, its document is dropped,
    and only the outcome is kept. The record is read for each command only, so that it takes no memory.
    """

    def __init__(self, device, handlers):
        self._device = device
        self._handlers = handlers
        self._restart_after = None

    def on_connected(self):
        """Send the results that the broker does not have yet."""
        for entry in self._entries():
            if not entry["said"]:
                self._send(entry["result"])

    def on_command(self, command):
        """Execute a command, unless it was begun before, has expired or is unknown, and send its result."""
        command_id, name, now = command["command_id"], command["name"], self._device.clock.now()
        for entry in self._entries():
            if entry["result"]["command_id"] == command_id:
                self._send(entry["result"])
                return
        result = {"command_id": command_id, "ok": False}
        if now is not None and seconds(command["expires_at"]) <= now:
            result["error"] = "expired"
        elif name not in self._handlers and name != "reboot":
            result["error"] = "unknown command; this firmware knows " + ", ".join(sorted(self._handlers))
        else:
            result["error"] = "cut off by a restart"
            self._put(result, said=False)
            result = self._executed(command_id, name, command.get("arguments") or {})
            self._put(result, said=False)
        self._send(result)

    def _executed(self, command_id, name, arguments):
        error = document = None
        try:
            document = self._handlers.get(name, _restart)(arguments)
        except Restart:
            self._restart_after = command_id
        except Exception as failure:  # noqa: BLE001 - whatever a command of the application raises is its result
            error = str(failure) or repr(failure)
        if document is not None and len(dumps(document)) > _RESULT_MAX:
            error = f"the result has more than {_RESULT_MAX} bytes"
        if error is not None:
            self._device.log(f"command {name}: {error}", "error")
            return {"command_id": command_id, "ok": False, "error": _line(error)}
        result = {"command_id": command_id, "ok": True}
        if document is not None:
            result["result"] = document
        return result

    def _send(self, result):
        result["error"] = _line(result["error"]) if result.get("error") else None
        sent = {name: value for name, value in result.items() if value is not None}
        self._device.send("command/result", sent, then=lambda: self._on_sent(sent))

    def _on_sent(self, result):
        command_id = result["command_id"]
        for entry in self._entries():
            if entry["result"]["command_id"] == command_id and not entry["said"]:
                result.pop("result", None)
                self._put(result, said=True)
        if command_id == self._restart_after:
            self._device.end("reboot")

    def _entries(self):
        return (self._device.store.read("commands") or {"entries": []})["entries"]

    def _put(self, result, said):
        command_id = result["command_id"]
        entries, entry = self._entries(), {"result": result, "said": said}
        for at, known in enumerate(entries):
            if known["result"]["command_id"] == command_id:
                entries[at] = entry
                break
        else:
            entries = entries[1 - _KEPT :] + [entry]
        self._device.store.write("commands", {"entries": entries})


def _restart(_arguments):
    """Restart the device: the command `reboot`, unless the application has its own."""
    raise Restart


def _line(words):
    """Return a text as one line of at most 200 characters."""
    return "".join(it if " " <= it != "\x7f" else " " for it in words)[:200]
