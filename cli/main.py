"""The admin tool `mdm`: its commands, its global options, and the printing of errors as one line.

Nothing that a person does ends in a traceback, which is for bugs.

Exit status: 0 success, 1 refused or failed, 2 invalid command (nothing was sent), 3 no connection to the broker,
130 interrupted by Ctrl-C, 141 nobody reads the output any more.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from cli import output, streams
from cli.durations import TIMEOUT_S
from cli.session import Session
from cli.tree import COMMANDS
from shared.errors import FleetError, InvalidInputError, NotFoundError, UnavailableError
from shared.protocol import wording
from shared.runtime import secret_files

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED: Final = 1
MISUSED: Final = 2
UNCONNECTED: Final = 3
INTERRUPTED: Final = 130
UNREAD: Final = 141
_OUTPUT_FAULTS: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Of click's own writing; all other files have errors of their own."""
_OF_VALUE: Final = re.compile(r"^Invalid value for '\[?(.+?)\]?'(?: \(.*?\))?: ")
_LISTS: Final = {
    "device": "device list",
    "image": "firmware list",
    "fingerprint": "firmware key list",
    "version": "config history",
    "tag": "config layer list",
    "claim": "claim list --all",
    "uid": "claim requests",
    "name": "admin list",
    "batch_id": "command list",
    "rollout": "rollout list",
    "id": "coredump list",
    "model": "model list",
}
"""Where to look, by what an error calls unknown; the first that applies."""
_FLAGS: Final = {"--json", "--wide"}
_VALUED: Final = {"--columns", "--timeout"}


class RootGroup(TyperGroup):
    """The root command: accepts some options anywhere, and prints each expected error as one line on stderr."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - as click has it
        super().__init__(**{**options, "commands": COMMANDS})

    def main(self, args: Sequence[str] | None = None, **options: Any) -> NoReturn:  # type: ignore[override]  # noqa: ANN401 - as click has it
        """Run one command and exit with its status."""
        words = _globals_first(list(sys.argv[1:] if args is None else args)) or ["--help"]
        options["standalone_mode"] = False
        as_json = "--json" in words[: words.index("--") if "--" in words else None]
        try:
            _check_text(words)
            status = super().main(words, **options)
            streams.check()
        except FleetError as error:
            status = _report(error, as_json=as_json)
        except typer.TyperException as error:
            where = getattr(error, "ctx", None)
            hint = f"see `{where.command_path} --help`" if where else None
            _print_error("invalid", _misuse(error), hint, as_json=as_json)
            status = error.exit_code
        except (typer.Abort, EOFError):
            _print_error("invalid", "standard input has ended before the question was answered", as_json=as_json)
            status = MISUSED
        except UnicodeDecodeError:
            _print_error("invalid", "standard input must be text in UTF-8", as_json=as_json)
            status = MISUSED
        except BrokenPipeError as error:
            streams.lost(error)
            status = UNREAD
        except OSError as error:
            if error.errno not in _OUTPUT_FAULTS:
                raise
            status = _report(streams.lost(error), as_json=as_json)
        except KeyboardInterrupt:
            status = INTERRUPTED
        sys.exit(status)


app = typer.Typer(
    cls=RootGroup,
    help="Identity, configuration, secrets and firmware for ESP32 devices.",
    epilog=f"{', '.join([*sorted(_FLAGS), *sorted(_VALUED)])} may be anywhere in a command.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.print_line(metadata.version("device-mdm"))
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print results, and errors, as JSON.")] = False,
    wide: Annotated[
        bool, typer.Option("--wide", help="Print tables with all columns, whole cells and exact times.")
    ] = False,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Print tables with these columns, in this order.")
    ] = None,
    host: Annotated[str | None, typer.Option(envvar="MDM_HOST", help="Host name of the broker.")] = None,
    port: Annotated[
        int | None,
        typer.Option(envvar="MDM_PORT", help="Port of the broker; the default is 1883, or 8883 with TLS."),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            envvar="MDM_ACCOUNT",
            help="Account to connect as; its password is in MDM_PASSWORD or the file MDM_PASSWORD_FILE.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(envvar="MDM_CA_FILE", help="Use TLS, with the certificate authorities in this PEM file."),
    ] = None,
    token_url: Annotated[
        str | None,
        typer.Option(
            envvar="MDM_TOKEN_URL",
            help="Keycloak's token endpoint, for a broker that requires tokens.",
        ),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(envvar="MDM_PROFILE", help="File with all of these settings, TOML or JSON.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Time to wait for an answer.")
    ] = TIMEOUT_S,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Store the global options in a session."""
    del version
    if columns is not None and as_json:
        raise InvalidInputError("--columns: has no effect with --json")
    output.WIDE.set(wide)
    given = {
        "host": host,
        "port": port,
        "account": account,
        # Not an option, as all users of the machine can read command lines.
        "password": secret_files.read("MDM_PASSWORD"),
        "ca_file": ca_file,
        "token_url": token_url,
    }
    names = [] if columns is None else columns.split(",")
    ctx.obj = Session(as_json=as_json, columns=names, timeout_s=timeout, profile_path=profile, given=given)


def main() -> None:
    """Run the tool."""
    streams.prepare()
    app(prog_name="mdm")


def _globals_first(words: list[str]) -> list[str]:
    """Move the options that may be anywhere before `--` to the front, where global options belong."""
    end = words.index("--") if "--" in words else len(words)
    first: list[str] = []
    rest: list[str] = []
    left: Iterator[str] = iter(words[:end])
    for word in left:
        if word in _FLAGS or word.partition("=")[0] in _VALUED:
            first += [word, *([next(left, "")] if word in _VALUED else [])]
        else:
            rest.append(word)
    return [*first, *rest, *words[end:]]


def _check_text(words: Sequence[str]) -> None:
    """Raise InvalidInputError for a word that is not UTF-8, which Python marks by surrogates."""
    for word in words:
        if not word.isprintable() and any("\ud800" <= character <= "\udfff" for character in word):
            raise InvalidInputError(f"{word.encode('utf-8', 'backslashreplace').decode()}: must be text in UTF-8")


def _misuse(error: typer.TyperException) -> str:
    """Return what is wrong with a command; of a value, which parameter it is of and its rule."""
    message = _OF_VALUE.sub(r"\1: ", error.format_message().rstrip("."))
    violation = error.__cause__
    if not isinstance(violation, ValueError) or not hasattr(violation, "errors"):
        return message
    name, _, _ = message.partition(": ")
    return f"{name}: {wording.rule(violation.errors()[0]).rstrip('.')}"


def _report(error: FleetError, *, as_json: bool) -> int:
    code = str(getattr(error, "answer_code", error.code))
    hint = None
    if code == NotFoundError.code:
        hint = next((f"see `mdm {command}`" for name, command in _LISTS.items() if name in error.details), None)
    elif code == UnavailableError.code:
        hint = "retry the same command"
    _print_error(code, error.message, None if "`mdm " in error.message else hint, as_json=as_json)
    if isinstance(error, InvalidInputError):
        return MISUSED
    return UNCONNECTED if code == "cannot_connect" else FAILED


def _print_error(code: str, message: str, hint: str | None = None, *, as_json: bool) -> None:
    if as_json:
        said = {"code": code, "message": message, "hint": hint}
        output.print_note(output.as_json({"error": said}))
    else:
        output.print_note(f"error: {message}; {hint}" if hint else f"error: {message}")


if __name__ == "__main__":
    main()
