"""The admin tool `mdm`: its commands, its global options, and the printing of errors as one line.

Exit status: 0 success, 1 refused or failed, 2 invalid command (nothing was sent), 3 no connection to the broker.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from cli import client, output
from cli.durations import TIMEOUT_S
from cli.session import Session
from cli.tree import COMMANDS
from shared.errors import FleetError, InvalidInputError, NotFoundError, UnavailableError
from shared.runtime import secret_files

FAILED: Final = 1
MISUSED: Final = 2
UNCONNECTED: Final = 3
_NEXT: Final = {
    "cannot_connect": "check that the broker is running, and host, port, account, password and CA file",
    NotFoundError.code: "see `mdm device list` and `mdm model list`",
    UnavailableError.code: "retry the same command",
}


class RootGroup(TyperGroup):
    """The root command: accepts `--json` anywhere, and prints each expected error as one line on stderr."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - as click has it
        super().__init__(**{**options, "commands": COMMANDS})

    def main(self, args: Sequence[str] | None = None, **options: Any) -> NoReturn:  # type: ignore[override]  # noqa: ANN401 - as click has it
        """Run one command and exit with its status."""
        words = _json_first(list(sys.argv[1:] if args is None else args)) or ["--help"]
        options["standalone_mode"] = False
        try:
            status = super().main(words, **options)
        except FleetError as error:
            status = _report(error)
        except typer.TyperException as error:
            where = getattr(error, "ctx", None)
            hint = f"; see `{where.command_path} --help`" if where else ""
            output.print_note(f"error: {error.format_message().rstrip('.')}{hint}")
            status = error.exit_code
        sys.exit(status)


app = typer.Typer(
    cls=RootGroup,
    help="Identity, configuration, secrets and firmware for ESP32 devices.",
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
    as_json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False,
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
    given = {
        "host": host,
        "port": port,
        "account": account,
        # Not an option, as all users of the machine can read command lines.
        "password": secret_files.read("MDM_PASSWORD"),
        "ca_file": ca_file,
        "token_url": token_url,
    }
    ctx.obj = Session(as_json=as_json, timeout_s=timeout, profile_path=profile, given=given)


def main() -> None:
    """Run the tool."""
    app(prog_name="mdm")


def _json_first(words: list[str]) -> list[str]:
    """Move a `--json` before `--` to the front, where global options belong."""
    end = words.index("--") if "--" in words else len(words)
    rest = [word for word in words[:end] if word != "--json"]
    return ["--json"] * (len(rest) < end) + rest + words[end:]


def _report(error: FleetError) -> int:
    if isinstance(error, InvalidInputError):
        output.print_note(f"error: {error.message}")
        return MISUSED
    code = error.answer_code if isinstance(error, client.AnswerError) else error.code
    says_what_to_do = "`mdm " in error.message
    hint = f"; {_NEXT[code]}" if code in _NEXT and not says_what_to_do else ""
    output.print_note(f"error: {error.message}{hint}")
    return UNCONNECTED if isinstance(error, client.CannotConnectError) else FAILED


if __name__ == "__main__":
    main()
