"""Stands for MicroPython's `network` on the unix port: an access point that knows one password."""

STA_IF = 0


class WLAN:
    joined = None
    is_on = False
    log = []  # noqa: RUF012 - of all

    def __init__(self, _interface):
        pass

    def active(self, is_on=None):
        if is_on is not None:
            WLAN.is_on = is_on
        return self.is_on

    def isconnected(self):
        return self.joined is not None

    def config(self, _name):
        return self.joined

    def disconnect(self):
        WLAN.joined = None

    def connect(self, ssid, key):
        self.log.append((ssid, key))
        if (ssid, key) in (("attic", "a password"), ("open", None)):
            WLAN.joined = ssid

    def status(self, _name):
        return -61

    def ifconfig(self):
        return ("192.0.2.7", "255.255.255.0", "192.0.2.1", "192.0.2.1")
