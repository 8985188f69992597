"""The cryptography of the package runs the test vectors on MicroPython itself, and agrees with a known library."""

from __future__ import annotations

import os
from pathlib import Path

from joserfc import jwe
from joserfc.jwk import OKPKey

from shared import crypto
from tests.micropython.board import PROGRAMS, SDK, needs_micropython, run

pytestmark = needs_micropython
VECTORS = Path(__file__).parents[2] / "docs" / "vectors"


async def test_all_vectors_hold_on_micropython() -> None:
    output = (await run(PROGRAMS / "vectors.py", str(SDK), str(VECTORS))).splitlines()
    assert [line for line in output if line.startswith("said")] == [
        "said request",
        "said stored",
        "said current",
        "said ack",
    ]
    counts = dict(line.split() for line in output if not line.startswith("said"))
    assert set(counts) == {"proofs", "opened", "refused", "recovered"}
    assert min(map(int, counts.values())) >= 1


async def test_what_is_sealed_for_a_new_key_opens_whatever_its_length(tmp_path: Path) -> None:
    """Lengths around the blocks of AES and GHASH, and a text that is not ASCII."""
    program = tmp_path / "opens.py"
    lines = ["import sys", f"sys.path[:0] = [{str(SDK)!r}]", "from mdm import crypto"]
    for length in (0, 1, 15, 16, 17, 31, 32, 33, 500):
        pair = crypto.new_key_pair()
        text = "ü" + os.urandom(length).hex()[:length]
        token = jwe.encrypt_compact(
            {"alg": "ECDH-ES", "enc": "A256GCM"}, text, OKPKey.import_key(pair.as_dict(private=False))
        )
        private, public = crypto.private_half(pair).get_secret_value(), crypto.public_half(pair)
        lines += [
            f"assert crypto.open_jwe({token!r}, crypto.from_b64url({private!r})) == {text!r}",
            f"assert crypto.b64url(crypto.public_half(crypto.from_b64url({private!r}))) == {public!r}",
        ]
    lines += [
        "try: crypto.x25519(bytes(32), bytes(32))",
        "except ValueError as error: print(error)",
    ]
    program.write_text("\n".join(lines))
    assert await run(program) == "public key: is of low order\n"
