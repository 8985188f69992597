"""Runs on MicroPython: the test vectors of docs/vectors, in the folder that is the second argument."""

import json
import sys

sys.path[:0] = [sys.argv[1]]

from mdm import crypto


def vectors(name):
    with open(f"{sys.argv[2]}/{name}.json") as file:
        return json.load(file)


for it in vectors("proofs")["vectors"]:
    assert crypto.proof(it["secret"], it["message"]) == it["proof"], it
print("proofs", len(vectors("proofs")["vectors"]))

sealed = vectors("jwe")
for it in sealed["vectors"]:
    private = crypto.from_b64url(it["private_key"])
    assert crypto.b64url(crypto.public_half(private)) == it["public_key"], it
    assert crypto.open_jwe(it["jwe"], private) == it["plaintext"], it
print("opened", len(sealed["vectors"]))
for it in sealed["must_not_open"]:
    try:
        crypto.open_jwe(it["jwe"], private)
    except ValueError:
        continue
    raise AssertionError(it)
print("refused", len(sealed["must_not_open"]))

recovery = vectors("recovery")
registering = recovery["registering"]
assert crypto.proof(registering["secret"], registering["message"]) == registering["proof"]
for it in recovery["vectors"]:
    private = crypto.from_b64url(it["device_private_key"])
    assert crypto.recovery_mac(private, it["server_public_key"], it["message"]) == it["mac"], it
print("recovered", len(recovery["vectors"]))

rotation = vectors("rotation")
private, rotation_id = crypto.from_b64url(rotation["private_key"]), None
for message in rotation["messages"]:
    said = json.loads(message["payload"])
    rotation_id = said.get("rotation_id", rotation_id)
    if "jwe" in said:
        assert crypto.open_jwe(said["jwe"], private) == rotation["new_secret"]
    purpose = message["topic"].rsplit("/", 1)[1]
    present = purpose == "request"
    for field, word in (("proof", purpose), ("current_proof", "current")):
        secret = rotation["present_secret" if present or word == "current" else "new_secret"]
        if field in said:
            assert crypto.proof(secret, f"{word}:{rotation_id}") == said[field], message
            print("said", word)
