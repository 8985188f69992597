"""The file of a backup: what was written is read, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import SecretStr

from backup import archive, sealed
from backup.archive import Collector, Writer
from backup.sealed import DamagedError, SealedReader, SealedWriter

PASSPHRASE = SecretStr("correct horse battery staple")
PIECE = 1000
HEADER = 36
TAG = 16


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep it quick: small pieces and a cheap key."""
    monkeypatch.setattr(sealed, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(archive, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(sealed, "_SCRYPT_COST", 2)


def sealed_file(data: bytes) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, PASSPHRASE)
    writer.write(data)
    writer.close()
    return file.getvalue()


def opened(file: bytes, passphrase: SecretStr = PASSPHRASE) -> bytes:
    return SealedReader(io.BytesIO(file), passphrase).read(1_000_000)


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 1])
def test_what_is_sealed_opens(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert opened(sealed_file(data)) == data


def test_a_file_that_is_read_several_times_costs_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    file, derive = sealed_file(b"data"), Scrypt.derive
    keys: list[bytes] = []

    def noted(scrypt: Scrypt, passphrase: bytes) -> bytes:
        keys.append(passphrase)
        return derive(scrypt, passphrase)

    monkeypatch.setattr(Scrypt, "derive", noted)
    sealed._cipher.cache_clear()
    assert [opened(file) for _ in range(3)] == [b"data"] * 3
    assert len(keys) == 1


def test_nothing_of_it_can_be_read_in_the_file() -> None:
    assert b"secret" not in sealed_file(b"secret" * 1000)


def test_two_files_of_the_same_have_nothing_in_common() -> None:
    first, second = (sealed_file(bytes(PIECE)) for _ in range(2))
    assert first[len(sealed.MAGIC) :] != second[len(sealed.MAGIC) :]
    assert first[HEADER:] != second[HEADER:]


def places(file: bytes) -> list[int]:
    """Return where pieces begin, and the file's end."""
    return [*range(HEADER, len(file), PIECE + TAG), len(file)]


def swapped(file: bytes) -> bytes:
    one, two, three = places(file)[:3]
    return file[:one] + file[two:three] + file[one:two] + file[three:]


def repeated(file: bytes) -> bytes:
    one, two = places(file)[:2]
    return file[:two] + file[one:]


def changed(file: bytes, place: int) -> bytes:
    damaged = bytearray(file)
    damaged[place] ^= 1
    return bytes(damaged)


def without(number: int) -> Callable[[bytes], bytes]:
    def damage(file: bytes) -> bytes:
        begin, end = list(pairwise(places(file)))[number]
        return file[:begin] + file[end:]

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *(swapped, repeated, without(0), without(1), without(-1)),
        lambda file: file[:-1],
        lambda file: file + b"x",
        lambda file: file[:HEADER],
        lambda file: file[:10],
        lambda file: b"x" + file,
        lambda file: changed(file, 20),
        lambda file: changed(file, -30),
        lambda _: b"",
    ],
)
def test_a_file_that_is_damaged_in_any_way_does_not_open(damage: Callable[[bytes], bytes]) -> None:
    whole = sealed_file(bytes(3 * PIECE + 100))
    with pytest.raises(DamagedError):
        opened(damage(whole))


def test_another_passphrase_is_told_from_other_damage_where_it_can_be() -> None:
    whole = sealed_file(bytes(3 * PIECE))
    with pytest.raises(DamagedError, match="passphrase is wrong"):
        opened(whole, SecretStr("another"))
    with pytest.raises(DamagedError, match=r"is damaged in MiB 3$"):
        opened(changed(whole, -1))


def test_bytes_of_the_end_of_one_backup_do_not_fit_another() -> None:
    first, second = sealed_file(bytes(2 * PIECE)), sealed_file(bytes(2 * PIECE))
    with pytest.raises(DamagedError):
        opened(first[: HEADER + PIECE + TAG] + second[HEADER + PIECE + TAG :])


async def test_entries_come_back_whole_and_in_their_order() -> None:
    file = io.BytesIO()
    writer = Writer.on(file, PASSPHRASE)
    writer.add("keycloak", b"secrets")
    for table in ("devices", "models"):
        collector = Collector(writer, f"tables/{table}")
        for _ in range(5):
            await collector.take(table.encode() * 100)
        assert collector.close() == 500 * len(table)
    Collector(writer, "tables/empty").close()
    writer.close()
    found = [(name, b"".join(pieces)) for name, pieces in archive.grouped(file, PASSPHRASE, archive.TABLES)]
    assert found == [("devices", b"devices" * 500), ("models", b"models" * 500), ("empty", b"")]
    assert archive.whole(file, PASSPHRASE, archive.KEYCLOAK) == b"secrets"
    with pytest.raises(DamagedError, match="no entry broker"):
        archive.whole(file, PASSPHRASE, archive.BROKER)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_what_opens_but_is_no_backup_is_refused(content: bytes) -> None:
    with pytest.raises(DamagedError):
        list(archive.pieces(io.BytesIO(sealed_file(content)), PASSPHRASE))
