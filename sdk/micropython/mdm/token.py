"""An access token of Keycloak as the password of a login, for brokers that want one."""

import json
import socket

from mdm.mqtt import RefusedError

_REFUSALS = ("invalid_client", "unauthorized_client")
_ANSWER_MAX = 16 * 1024


def fetch(url, client_id, secret, tls, timeout_s):
    """Return a new token; raise RefusedError if Keycloak refuses the secret, else OSError."""
    scheme, _, place, path = url.split("/", 3)
    host, _, port = place.partition(":")
    form = f"grant_type=client_credentials&client_id={_quoted(client_id)}&client_secret={_quoted(secret)}"
    head = f"POST /{path} HTTP/1.0\r\nHost: {place}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    head += f"Content-Length: {len(form)}\r\n\r\n"
    link = socket.socket()
    try:
        link.settimeout(timeout_s)
        default = 443 if scheme == "https:" else 80
        link.connect(socket.getaddrinfo(host, int(port or default), 0, socket.SOCK_STREAM)[0][-1])
        stream = tls.wrap_socket(link, server_hostname=host) if scheme == "https:" else link
        stream.write((head + form).encode())
        received = b""
        while len(received) < _ANSWER_MAX:
            data = stream.read(1024)
            if not data:
                break
            received += data
    finally:
        link.close()
    return _token(received)


def _token(received):
    """Return the token in an answer of HTTP."""
    head, _, body = received.partition(b"\r\n\r\n")
    try:
        status, answer = int(head.split(b" ", 2)[1]), json.loads(body)
        if status == 200:
            return answer["access_token"]
        if status in (400, 401) and answer.get("error") in _REFUSALS:
            raise RefusedError("Keycloak refuses the secret: " + answer["error"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise OSError("Keycloak's answer is no token")
    raise OSError(f"Keycloak answers with {status}")


def _quoted(text):
    """Return a text as a value of a form."""
    return "".join(it if it.isalpha() or it.isdigit() or it in "-._~" else f"%{ord(it):02X}" for it in text)
