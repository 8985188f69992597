"""A small client for MQTT 3.1.1: QoS 1, each message acknowledged after it was handled, no wait without an end.

umqtt.simple runs the handlers of other messages inside each publish with QoS 1, and waits without an end for
a broker that is silent.
"""

import select
import socket
import time

_REFUSED = (4, 5)  # MQTT 3.1.1, 3.2.2.3
_FAILED = 0x80
_BUFFER_BYTES = 1024
_PACKET_MAX = 40 * 1024
_CUT = 0x100


class RefusedError(Exception):
    """The broker refuses this password."""


def text(value):
    """Return a string as MQTT has it: its length in two bytes, then UTF-8."""
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def connect_packet(client_id, user, password, will=None, clean=False, keepalive_s=30):
    """Return CONNECT; a will is a pair of topic and payload, with QoS 1, retained."""
    flags = 0xC0 | (2 if clean else 0) | (0x2C if will else 0)
    parts = [text("MQTT"), bytes((4, flags)), keepalive_s.to_bytes(2, "big"), text(client_id)]
    if will:
        parts += [text(will[0]), text(will[1])]
    return packet(0x10, b"".join(parts + [text(user), text(password)]))


def packet(kind, body):
    """Return a packet: its kind, its length, its body."""
    head, rest = bytearray((kind,)), len(body)
    while True:
        head.append(rest & 0x7F | (0x80 if rest > 0x7F else 0))
        rest >>= 7
        if not rest:
            return bytes(head) + body


class Connection:
    """A connection to the broker; each method raises OSError when it is lost.

    `opened` waits for the broker's answer. `receive` is to be called often: it also answers for the keepalive.
    """

    def __init__(self, host, port, tls, keepalive_s=30, timeout_ms=10000):
        """Connect; `tls` is a context or None."""
        self._timeout_ms = timeout_ms
        self._keepalive_ms = keepalive_s * 1000
        self._buffer = bytearray(_BUFFER_BYTES)
        self._next_id = 0
        self._received = None
        self.unacknowledged = {}
        self._raw = self._socket = socket.socket()
        try:
            self._raw.settimeout(timeout_ms / 1000)
            self._raw.connect(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0][-1])
            self._raw.setblocking(False)
            if tls is not None:
                # The handshake is a part of the first write, so that it has an end too.
                self._socket = tls.wrap_socket(self._raw, server_hostname=host, do_handshake_on_connect=False)
        except Exception:
            self._raw.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._sent_at = time.ticks_ms()
        self._pinged_at = None

    def opened(self, connect):
        """Send CONNECT and wait for the answer; raise RefusedError if the password is wrong."""
        self._write(connect)
        kind, body = self._packet()
        if kind != 0x20 or len(body) != 2:
            raise OSError("the broker does not speak MQTT 3.1.1")
        if body[1] in _REFUSED:
            raise RefusedError(f"the broker refuses the password: code {body[1]}")
        if body[1]:
            raise OSError(f"the broker is not ready: code {body[1]}")

    def subscribe(self, topic):
        """Subscribe with QoS 1, and wait for the answer."""
        wanted = self._id()
        self._write(packet(0x82, wanted.to_bytes(2, "big") + text(topic) + b"\x01"))
        self.unacknowledged[wanted] = self._on_subscribed

    def publish(self, topic, payload, retain=False, then=None):
        """Publish with QoS 1; `then` is called from `receive` when the broker has it."""
        wanted = self._id()
        payload = payload.encode() if isinstance(payload, str) else payload
        body = text(topic) + wanted.to_bytes(2, "big") + payload
        self.unacknowledged[wanted] = then
        self._write(packet(0x33 if retain else 0x32, body))

    def receive(self, wait_ms):
        """Return topic and payload of the next message, or None if another packet or nothing has come.

        The payload is valid until the next call. A message that has no room is (topic, None).
        """
        now = time.ticks_ms()
        if time.ticks_diff(now, self._sent_at) > self._keepalive_ms // 2:
            self._write(b"\xc0\0")
            self._pinged_at = now if self._pinged_at is None else self._pinged_at
        if not self._ready(select.POLLIN, wait_ms):
            if self._pinged_at is not None and time.ticks_diff(now, self._pinged_at) > self._timeout_ms:
                raise OSError("the broker is silent")
            return None
        kind, body = self._packet()
        if kind & 0xF0 == 0x30:
            return self._message(kind, body)
        if kind in (0x40, 0x90):
            then = self.unacknowledged.pop(body[0] << 8 | body[1], None)
            if kind == 0x90:
                then(body)
            elif then is not None:
                then()
        return None

    def acknowledge(self):
        """Acknowledge the message that was received last: until now the broker would deliver it again."""
        if self._received is not None:
            self._write(b"\x40\x02" + self._received)
            self._received = None

    def disconnect(self):
        """Leave, so that the broker publishes no will."""
        self._write(b"\xe0\0")
        self.close()

    def close(self):
        """Close the socket, as a power cut does."""
        self._socket.close()
        self._raw.close()

    def _id(self):
        self._next_id = self._next_id % 0xFFFF + 1
        return self._next_id

    def _on_subscribed(self, body):
        if body[2] & _FAILED:
            raise OSError("the broker refuses the subscription")

    def _message(self, kind, body):
        end = (body[0] << 8 | body[1]) + 2
        topic = bytes(body[2:end]).decode()
        self._received = None
        if kind & 6:
            self._received = bytes(body[end : end + 2])
            end += 2
        return topic, None if kind & _CUT else body[end:]

    def _packet(self):
        """Return the kind and body of the next packet, a view of memory that is used again."""
        head = memoryview(self._buffer)[:1]
        self._read(head)
        kind, length, shift = head[0], 0, 0
        while True:
            self._read(head)
            length |= (head[0] & 0x7F) << shift
            shift += 7
            if head[0] < 0x80:
                break
        body = self._buffer if length <= _BUFFER_BYTES else self._room(length)
        if body is None:
            body = bytearray(_BUFFER_BYTES)
            self._read(memoryview(body))
            self._skip(length - _BUFFER_BYTES)
            kind |= _CUT
        else:
            body = memoryview(body)[:length]
            self._read(body)
        self._pinged_at = None
        return kind, body

    def _room(self, length):
        try:
            return bytearray(length) if length <= _PACKET_MAX else None
        except MemoryError:
            return None

    def _skip(self, length):
        while length:
            count = min(length, _BUFFER_BYTES)
            self._read(memoryview(self._buffer)[:count])
            length -= count

    def _read(self, view):
        while view:
            count = self._socket.readinto(view)
            if count == 0:
                raise OSError("the broker has closed the connection")
            if count:
                view = view[count:]
            elif not self._ready(select.POLLIN, self._timeout_ms):
                raise OSError("the broker stops in the middle of a packet")

    def _write(self, data):
        view = memoryview(data)
        while view:
            count = self._socket.write(view)
            if count:
                view = view[count:]
            elif not self._ready(select.POLLOUT, self._timeout_ms):
                raise OSError("the broker takes nothing")
        self._sent_at = time.ticks_ms()

    def _ready(self, flag, wait_ms):
        self._poll.modify(self._socket, flag)
        return bool(self._poll.poll(wait_ms))
