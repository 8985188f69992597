"""`mdm device import`: devices from a file, one per line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import batches, client, lifecycle, output, package_files, selection, session, spreadsheets, tables
from shared.errors import ConflictError, InvalidInputError
from shared.protocol import admin

app = typer.Typer()

_COLUMNS: Final = ("model", "name", "tags")
_BETWEEN_TAGS: Final = re.compile(r"[\s,;]+")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: the fields of a device, or the error in the line."""

    number: int
    fields: dict[str, Any]
    fault: str | None = None
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """The result of a line: the device that was `added` or `present`, or the reason why it was `refused`."""

    line: int
    result: str
    name: str | None = None
    client_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ImportTally:
    """The outcomes of the lines so far."""

    lines: int
    outcomes: list[ImportOutcome] = field(default_factory=list)

    def of(self, result: str) -> list[ImportOutcome]:
        """Return the outcomes with this result, by line."""
        return sorted((it for it in self.outcomes if it.result == result), key=lambda it: it.line)

    @property
    def known(self) -> list[ImportOutcome]:
        """The outcomes of the lines whose device exists now, by line."""
        return sorted(self.of("added") + self.of("present"), key=lambda it: it.line)

    @property
    def open(self) -> int:
        """The number of lines without an outcome."""
        return self.lines - len(self.outcomes)


@app.command("import")
def import_file(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    *,
    model: Annotated[str | None, typer.Option(help="Model of lines without one.")] = None,
    target: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE.csv", help="File to write the lines to, each with its client id."),
    ] = None,
    packages: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE.zip", help="Folder, or ZIP file, to write the packages to, which are secret."
        ),
    ] = None,
    dry_run: selection.DryRun = False,
    yes: selection.Yes = False,
) -> None:
    """Add devices from a CSV or JSON Lines file, one per line.

    The first line of a CSV file names its columns: name, tags, and model unless --model is given; other columns
    are ignored. Fields are separated by commas, semicolons or tabs, tags by spaces, commas or semicolons. The file
    is UTF-8, UTF-16 with a byte order mark, or Windows-1252, as spreadsheets write it. A JSON Lines file has the
    suffix .jsonl or .ndjson.

    Model and name identify a line: a device that exists is left as it is, so that the same command completes an
    interrupted import. Invalid lines do not stop the import: they are listed at the end with reasons, and the
    exit status is 1.
    """
    here = session.of(ctx)
    lines = list(read(file, model=model))
    if not lines:
        raise InvalidInputError(f"FILE: {file} has no lines below the names of the columns")
    if target is not None and target.exists():
        raise ConflictError(f"--output: {target} exists; name another file")
    ignored = sorted(frozenset().union(*(line.ignored for line in lines)))
    if ignored:
        output.print_note(f"ignored columns: {', '.join(ignored)}")
    refused = [ImportOutcome(it.number, "refused", reason=it.fault) for it in lines if it.fault]
    tally = ImportTally(len(lines), refused)
    valid = [line for line in lines if line.fault is None]
    if dry_run:
        tally.outcomes.extend(ImportOutcome(it.number, "valid", it.fields["name"]) for it in valid)
        _print(tally, as_json=here.as_json)
    else:
        if packages is not None:
            package_files.check(packages)
        if len(valid) > 1:
            lifecycle.confirm(f"add {len(valid)} devices, unless they exist?", yes=yes)
        _add(here, lines, tally, target, packages)
    if tally.of("refused"):
        raise typer.Exit(1)


def _add(
    here: session.Session, lines: list[Line], tally: ImportTally, target: Path | None, packages: Path | None
) -> None:
    """Add the devices of the valid lines, and write and print the result."""
    valid = [line for line in lines if line.fault is None]
    try:
        here.run(lambda connection: _add_all(connection, valid, tally, timeout_s=here.timeout_s))
        if packages is not None:
            package_files.write(here, [it.client_id for it in tally.known if it.client_id], packages)
    finally:
        # Also after Ctrl-C and a lost connection.
        if target is not None:
            _write_ids(target, lines, tally)
        _print(tally, as_json=here.as_json)


def read(file: Path, *, model: str | None) -> Iterator[Line]:
    """Yield each line that is not empty; a line with the model and name of an earlier one has a fault."""
    text = spreadsheets.lines(file.read_bytes())
    found = _json_lines(text) if file.suffix in {".jsonl", ".ndjson"} else spreadsheets.rows(text, _COLUMNS)
    known: dict[tuple[object, object], int] = {}
    for row in found:
        given = {name: value for name, value in row.fields.items() if name in _COLUMNS and value}
        if isinstance(given.get("tags"), str):
            given["tags"] = [tag for tag in _BETWEEN_TAGS.split(given["tags"]) if tag]
        fields = {"model": model, **given}
        fault = row.fault or _fault(fields)
        if fault is None:
            earlier = known.setdefault((fields["model"], fields["name"]), row.number)
            if earlier != row.number:
                fault = f"name: is that of line {earlier} too"
        yield Line(row.number, fields, fault, frozenset(row.fields) - {*_COLUMNS, ""})


def _fault(fields: dict[str, Any]) -> str | None:
    """Return why these are not the fields of a device that the next import would recognize."""
    if not fields.get("name"):
        return "name: must not be empty; it identifies the device if the file is imported again"
    try:
        client.build(admin.DEVICE_ADD, **fields)
    except InvalidInputError as error:
        return error.message
    return None


def _json_lines(text: Iterable[str | None]) -> Iterator[spreadsheets.TableRow]:
    for number, line in enumerate(text, 1):
        if line is None:
            yield spreadsheets.TableRow(number, {}, "is not in the encoding of the other lines")
        elif line.strip():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield spreadsheets.TableRow(number, {}, f"is not JSON: {error}")
                continue
            if isinstance(found, dict):
                yield spreadsheets.TableRow(number, found)
            else:
                yield spreadsheets.TableRow(number, {}, "must be a JSON object")


async def _add_all(connection: client.Admin, lines: list[Line], tally: ImportTally, *, timeout_s: float) -> None:
    """Add the devices, and record the outcome of each line that was answered."""

    async def add(line: Line) -> None:
        name = line.fields["name"]
        request = client.build(admin.DEVICE_ADD, unique_name=True, **line.fields)
        try:
            device = await connection.call(admin.DEVICE_ADD, request, timeout_s=timeout_s)
        except client.AnswerError as error:
            present = error.details.get("client_id") if error.answer_code == ConflictError.code else None
            if isinstance(present, str):
                outcome = ImportOutcome(line.number, "present", name, present)
            else:
                outcome = ImportOutcome(line.number, "refused", name, reason=error.message)
        else:
            outcome = ImportOutcome(line.number, "added", name, device.client_id)
        tally.outcomes.append(outcome)

    await batches.each(lines, add, label="devices")


def _write_ids(target: Path, lines: Sequence[Line], tally: ImportTally) -> None:
    """Write the lines with the client ids of their devices, and what became of them."""
    outcomes = {it.line: it for it in tally.outcomes}
    text = io.StringIO()
    written = csv.writer(text)
    written.writerow(["line", "client_id", "result", *_COLUMNS, "reason"])
    for line in lines:
        found = outcomes.get(line.number, ImportOutcome(line.number, "not done"))
        fields = {**line.fields, "tags": " ".join(line.fields.get("tags") or ())}
        facts = [line.number, found.client_id or "", found.result, *(fields.get(name) or "" for name in _COLUMNS)]
        written.writerow([*facts, found.reason or ""])
    output.write_private(target, text.getvalue(), replace=False)


def _print(tally: ImportTally, *, as_json: bool) -> None:
    valid, added, present, refused = (tally.of(result) for result in ("valid", "added", "present", "refused"))
    if as_json:
        output.print_json(
            {
                **({"valid": [it.line for it in valid]} if valid else {}),
                "added": [it.client_id for it in added],
                "present": [it.client_id for it in present],
                "refused": [{"line": it.line, "reason": it.reason} for it in refused],
                "open": tally.open,
            }
        )
    else:
        if added or present:
            tables.print_table(added + present, ("device=client_id, name", ("line", lambda it: it.line), "result"))
        tables.print_all(
            {
                **({"valid, not added": len(valid)} if valid else {}),
                "added": len(added),
                "already present": len(present),
                "refused": len(refused),
                "not done": tally.open,
            }
        )
        for it in refused:
            output.print_note(f"line {it.line}: {it.reason}")
    if tally.open:
        output.print_note("the same command completes the import")
