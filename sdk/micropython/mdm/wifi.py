"""The station's networks, tried in their order."""

import time

_JOIN_MS = 15000


def join(networks):
    """Join the first network that takes us, unless we are in one of them; return whether we are."""
    import network

    station = network.WLAN(network.STA_IF)
    station.active(True)
    if station.isconnected() and station.config("ssid") in [it["ssid"] for it in networks]:
        return True
    for it in networks:
        station.disconnect()
        # An open network has no key at all.
        station.connect(it["ssid"], it.get("password") or None)
        until = time.ticks_add(time.ticks_ms(), _JOIN_MS)
        while time.ticks_diff(until, time.ticks_ms()) > 0:
            if station.isconnected():
                return True
            time.sleep_ms(100)
    return False


def leave():
    """Switch the radio off, before a sleep."""
    import network

    network.WLAN(network.STA_IF).active(False)


def facts():
    """Return what `up/status` has of the network."""
    try:
        import network

        station = network.WLAN(network.STA_IF)
        if station.isconnected():
            return {"rssi_dbm": station.status("rssi"), "ip": station.ifconfig()[0]}
    except (ImportError, OSError, ValueError, TypeError, AttributeError):
        pass  # no station here, or one whose driver does not tell
    return {}
