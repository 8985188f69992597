"""Devices request their configuration without pauses: the registry against an echo and against plain HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from dev.bench import echo
from dev.bench.light import Light
from dev.bench.load import Requester, percentile, run_load
from dev.bench.population import PASSWORD, PopulationDevice
from dev.bench.report import Report
from dev.bench.servers import ANSWER, echoing, plain_http_serving, second_registry
from dev.servers.base import HOST
from dev.system import System
from shared.protocol import topics

COUNTS: Final = (100, 1000)
SECONDS: Final = 2.0
ROUNDS: Final = 3


class MqttRequester:
    """A device that sends requests over MQTT, with its own account and topics."""

    def __init__(self, device: PopulationDevice) -> None:
        self.answered: Callable[[], None] = lambda: None
        self.light = Light(self._on_message)
        self._client_id = device.client_id
        self._topic = b""
        self._number = 0

    async def connect(self, system: System) -> None:
        """Connect and subscribe, without TLS, which is not measured."""
        endpoints = system.stack.endpoints
        await self.light.connect(endpoints.mqtt_host, endpoints.mqtt_port, self._client_id, PASSWORD)
        await self.light.subscribe(topics.CONFIG.of(client_id=self._client_id))

    def turn_to(self, question: str) -> None:
        """Use this topic for requests from now on."""
        self._topic = question.format(client_id=self._client_id).encode()

    def send(self) -> None:
        """Send a request with a new number."""
        self._number += 1
        self.light.publish(self._topic, b'{"request_id":"%d"}' % self._number)

    def _on_message(self, _topic: bytes, payload: bytes) -> None:
        if payload.startswith(b'{"request_id":"%d",' % self._number):
            self.answered()


class LightResponder:
    """Answers as the echo does, in the devices' own process and at the least cost: the broker's limit."""

    def __init__(self) -> None:
        self.light = Light(self._on_message)

    async def connect(self, system: System) -> None:
        """Connect with the registry's account."""
        endpoints, account = system.stack.endpoints, "svc-registry"
        host, port = endpoints.mqtt_host, endpoints.mqtt_port
        await self.light.connect(host, port, account, endpoints.accounts[account])
        await self.light.subscribe(echo.BARE_QUESTION.format(client_id="+"))

    def _on_message(self, topic: bytes, payload: bytes) -> None:
        answer = topics.CONFIG.of(client_id=topic.split(b"/")[3].decode()).encode()
        self.light.publish(answer, payload[:-1] + b"," + ANSWER[1:])


class HttpRequester(asyncio.Protocol):
    """A device that sends requests over HTTP, on a persistent connection."""

    def __init__(self, device: PopulationDevice) -> None:
        self.answered: Callable[[], None] = lambda: None
        self._device = device
        self._number = 0
        self._data = b""

    async def connect(self, port: int) -> None:
        """Open the connection."""
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_connection(lambda: self, HOST, port)

    def send(self) -> None:
        """Send a request with a new number."""
        self._number += 1
        path = f"/{self._device.client_id}/{self._number}"
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Wait for the complete answer."""
        self._data += data
        head, blank, body = self._data.partition(b"\r\n\r\n")
        if blank and len(body) >= int(head.lower().partition(b"content-length: ")[2].split()[0]):
            self._data = b""
            if body.startswith(b'{"request_id":"%d",' % self._number):
                self.answered()


@dataclass(slots=True)
class Way:
    """One kind of responder, and its results by round."""

    name: str
    baseline: Way | None = None
    requests_per_s: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    async def measure(self, requesters: Sequence[Requester]) -> None:
        """Measure one round."""
        took = await run_load(SECONDS, requesters)
        self.requests_per_s.append(len(took) / SECONDS)
        self.p50_ms.append(1000 * percentile(took, 0.5))
        self.p99_ms.append(1000 * percentile(took, 0.99))

    def row(self, devices: int) -> dict[str, Any]:
        """Return the medians; the ratio to the baseline is the median of the ratios of all rounds."""
        baseline = self.baseline
        parts = zip(self.requests_per_s, baseline.requests_per_s, strict=True) if baseline else ()
        return {
            "devices": devices,
            "way": self.name,
            "requests_per_s": round(median(self.requests_per_s)),
            "p50_ms": round(median(self.p50_ms), 1),
            "p99_ms": round(median(self.p99_ms), 1),
            "of_baseline": round(median(ours / theirs for ours, theirs in parts), 2) if baseline else None,
            "baseline": baseline.name if baseline else None,
            "rounds": [round(value) for value in self.requests_per_s],
        }


async def _measured(system: System, devices: int) -> list[Way]:
    """Measure all responders, each right after its baseline."""
    population = [PopulationDevice(number) for number in range(devices)]
    over_mqtt = [MqttRequester(device) for device in population]
    over_http = [HttpRequester(device) for device in population]

    async def turn(way: Way, question: str) -> None:
        for asker in over_mqtt:
            asker.turn_to(question)
        await way.measure(over_mqtt)

    responder, broker, http = LightResponder(), Way("broker alone"), Way("HTTP, SQLAlchemy")
    echo_of_one, echo_of_two = Way("echo", broker), Way("echo, later")
    one, two = Way("registry", echo_of_one), Way("two registries", echo_of_two)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(echoing(system))
        port = await stack.enter_async_context(plain_http_serving(system))
        for asker in over_http:
            await asker.connect(port)
            stack.callback(asker.transport.close)
        for device in over_mqtt:
            await device.connect(system)
            stack.callback(device.light.close)
        await responder.connect(system)
        stack.callback(responder.light.close)
        for _ in range(ROUNDS):
            await http.measure(over_http)
            await turn(broker, echo.BARE_QUESTION)
            await turn(echo_of_one, echo.QUESTION)
            await turn(one, topics.CONFIG_GET.template)
        await stack.enter_async_context(second_registry(system))
        for _ in range(ROUNDS):
            await turn(echo_of_two, echo.QUESTION)
            await turn(two, topics.CONFIG_GET.template)
    return [one, two, echo_of_one, echo_of_two, broker, http]


async def run(system: System) -> Report:
    """Measure with few devices and with many."""
    rows = [way.row(count) for count in COUNTS for way in await _measured(system, count)]
    return Report("devices request their configuration, each again after its answer", rows)
