"""TLS with the authorities of the package only, on a board whose clock may never have been set."""

import time

from mdm import clock

VERIFY_FAILED = -0x2700  # MBEDTLS_ERR_X509_CERT_VERIFY_FAILED
DAY_S = 86400


def certificates(pem):
    """Return the certificates in PEM, one after the other, as a list of DER; raise ValueError."""
    from binascii import a2b_base64

    parts = (pem or "").split("-----BEGIN CERTIFICATE-----")[1:]
    if not parts:
        raise ValueError("ca_certificate: must be certificates in PEM; MicroPython has none of its own")
    return [a2b_base64("".join(part.split("-----END CERTIFICATE-----")[0].split())) for part in parts]


def context(pem):
    """Return a context that trusts these authorities and no others; raise ValueError."""
    import ssl

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.verify_mode = ssl.CERT_REQUIRED
    for certificate in certificates(pem):
        made.load_verify_locations(cadata=certificate)
    return made


def first_day(certificate):
    """Return when a certificate in DER becomes valid, in seconds since 1970; None if it has no UTCTime."""
    data, at = bytes(certificate), 0
    while True:
        at = data.find(b"\x17\x0d", at) + 2
        if at < 2:
            return None
        digits = data[at : at + 12]
        if digits.isdigit() and data[at + 12 : at + 13] == b"Z":
            year, month, day, hour, minute, second = [int(digits[i : i + 2]) for i in range(0, 12, 2)]
            return clock.count(2000 + year, month, day, hour, minute, second)


def correct_board_clock(at, slack_s=0):
    """Set the board's clock to seconds since 1970, if it is more than `slack_s` behind; return whether it was.

    mbedTLS compares the dates of certificates with this clock, which begins in the year 2000 after a power cut.
    """
    if clock.count(*time.gmtime()[:6]) >= at - slack_s:
        return False
    try:
        from machine import RTC
    except ImportError:
        return False  # of an operating system, which sets its clock itself
    now = time.gmtime(at - clock.count(*time.gmtime(0)[:6]))  # a board may count from 2000
    RTC().datetime((now[0], now[1], now[2], now[6], now[3], now[4], now[5], 0))
    return True
