"""A thermometer of the fleet: copy it to the board as main.py, with package.json of `mdm device provision`."""

import time

import mdm
from machine import ADC, Pin

NETWORKS = [{"ssid": "my network", "password": "my password"}]
sensor = ADC(Pin(34), atten=ADC.ATTN_11DB)  # an LM35: 10 mV a degree


def celsius():
    """Return the temperature now."""
    return round(sensor.read_uv() / 10000, 1)


def check(document):
    """Return what is wrong with a configuration, or None."""
    return None if document.get("interval_s", 60) >= 1 else "interval_s: must be at least 1"


def measure(_arguments):
    """Answer `mdm command send DEVICE measure`."""
    return {"celsius": celsius()}


device = mdm.Device("1.0.0", commands={"measure": measure}, on_config=check, networks=NETWORKS)
measured_at = None
while True:
    device.poll(500)
    settings = device.document
    if (
        measured_at is None
        or time.ticks_diff(time.ticks_ms(), measured_at) >= settings.get("interval_s", 60) * 1000
    ):
        measured_at = time.ticks_ms()
        now = celsius()
        device.publish("temperature", {"celsius": now})
        if now > settings.get("alarm_celsius", 50):
            device.log(f"it is {now} degrees", level="warning", tag="thermometer")
