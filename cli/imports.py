"""`mdm device import`: devices from a file, one per line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import batches, client, output, session, tables
from shared.errors import FleetError, InvalidInputError
from shared.protocol import admin

app = typer.Typer()

_COLUMNS: Final = ("model", "name", "tags")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: the fields of a device, or the error in the line."""

    number: int
    fields: dict[str, Any]
    fault: str | None = None


@app.command("import")
def import_file(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    model: Annotated[str | None, typer.Option(help="Model of lines without one.")] = None,
) -> None:
    """Add devices from a CSV or JSON Lines file, one per line.

    A CSV file begins with the names of its columns: model, name, tags. A JSON Lines file has the suffix .jsonl or
    .ndjson. Invalid lines do not stop the import: they are listed at the end with reasons, and the exit status
    is 1.
    """
    here = session.of(ctx)
    lines = list(read(file, model=model))
    if not lines:
        raise InvalidInputError(f"file: {file} has no lines")
    added: list[admin.DeviceView] = []
    refused: list[tuple[int, str]] = []
    here.run(lambda connection: _add_all(connection, lines, added, refused, timeout_s=here.timeout_s))
    refused.sort()
    if here.as_json:
        output.print_json(
            {
                "added": [device.client_id for device in added],
                "refused": [{"line": number, "reason": reason} for number, reason in refused],
            }
        )
    else:
        tables.print_all({"added": len(added), "refused": len(refused)})
        for number, reason in refused:
            output.print_note(f"line {number}: {reason}")
    if refused:
        raise typer.Exit(1)


def read(file: Path, *, model: str | None) -> Iterator[Line]:
    """Yield each line that is not empty; tags in a CSV file are separated by spaces."""
    text = file.read_text(encoding="utf-8-sig")
    rows = _json_lines(text) if file.suffix in {".jsonl", ".ndjson"} else _csv_lines(text)
    for number, found in rows:
        if isinstance(found, str):
            yield Line(number, {}, found)
            continue
        unknown = sorted(set(found) - set(_COLUMNS))
        if unknown:
            yield Line(number, {}, f"{unknown[0]}: is not one of {', '.join(_COLUMNS)}")
            continue
        yield Line(number, {"model": model, **{name: value for name, value in found.items() if value}})


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            yield number, f"is not JSON: {error}"
            continue
        yield number, found if isinstance(found, dict) else "must be a JSON object"


def _csv_lines(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    reader = csv.DictReader(text.splitlines())
    for row in reader:
        if None in row or None in row.values():
            yield reader.line_num, f"must have the {len(reader.fieldnames or ())} columns of the first line"
            continue
        yield reader.line_num, {**row, "tags": (row.get("tags") or "").split()}


async def _add_all(
    connection: client.Admin,
    lines: list[Line],
    added: list[admin.DeviceView],
    refused: list[tuple[int, str]],
    *,
    timeout_s: float,
) -> None:
    """Add the devices, and record the results in `added` and `refused`."""

    async def add(line: Line) -> None:
        try:
            if line.fault is not None:
                raise InvalidInputError(line.fault)
            request = client.build(admin.DEVICE_ADD, **line.fields)
            added.append(await connection.call(admin.DEVICE_ADD, request, timeout_s=timeout_s))
        except FleetError as error:
            refused.append((line.number, error.message))

    await batches.each(lines, add, label="devices")
