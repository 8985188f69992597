"""Runs on MicroPython: a device as an application has it, with a fault hook, short pauses and a report on stdout.

Its one argument is a file of settings in JSON; each line of its output is a word and a value.
"""

import gc
import json
import os
import sys

with open(sys.argv[1]) as file:
    settings = json.load(file)
sys.path[:0] = settings["path"]

import time

import esp32
import mdm


def say(word, value=""):
    print(word, value)


counts = {}


def fault(point):
    counts[point] = counts.get(point, 0) + 1
    say("step", point)
    if f"{point}#{counts[point]}" == os.getenv("MDM_CUT_AT"):
        while True:
            time.sleep(1)


def on_config(document):
    say("document", json.dumps(document))
    return "interval_s: must not be 13" if document.get("interval_s") == 13 else None


def fails(_arguments):
    raise ValueError("the motor is stuck")


def restart():
    say("restart")
    sys.exit(3)


def sleep():
    say("asleep", device.wake_interval_s)
    time.sleep(device.wake_interval_s)
    if not settings.get("light"):
        sys.exit(3)


def measures(arguments):
    say("measuring")
    return {"celsius": 21, "at": arguments.get("at")}


def echoes(arguments):
    return arguments


def version():
    """Return the version in the running image (esp_app_desc_t), or that of a board without slots."""
    head = bytearray(80)
    esp32.Partition(esp32.Partition.RUNNING).readblocks(0, head)
    return head[48:].rstrip(b"\0").decode() if head[0] == 0xE9 else "1.0.0"


commands = {"measure": measures, "fail": fails, "echo": echoes}
store = mdm.Nvs(fault) if settings.get("nvs") else mdm.Files(settings["state"], fault)
device = mdm.Device(
    version(),
    mdm.load(settings["folder"]),
    store,
    commands,
    on_config,
    self_test=lambda: settings.get("sick"),
    networks=settings.get("networks"),
    uid=settings.get("uid"),
    wake_interval_s=settings.get("wake_interval_s"),
)
for name, value in settings["times"].items():
    setattr(device, name, value)
device.restart = restart
device.sleep = sleep
log = device.log


def narrated(message, level="info", tag="mdm"):
    say("log", message)
    print(tag, level, message, file=sys.stderr)
    log(message, level, tag)


device.log = narrated
publish = device._publish


def published(topic, payload, retain=False, then=None):
    point = "publish." + topic.replace("/", ".")

    def acknowledged():
        fault(point + ":after")
        if then is not None:
            then()

    fault(point + ":before")
    publish(topic, payload, retain, acknowledged)


if not settings.get("measure"):
    device._publish = published
known = False
measured = False
while True:
    if device.poll(200) != known:
        known = not known
        say("connected" if known else "gone", device.package.get("client_id"))
    if settings.get("measure") and known and not measured and device.document:
        gc.collect()
        say("heap", gc.mem_alloc())
        device.publish("temperature", {"celsius": 21.5})
        device.vitals({"heap_free_bytes": gc.mem_free(), "uptime_s": device.clock.ms() // 1000})
        measured = True
