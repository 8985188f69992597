"""The way in: networks, the broker of the present profile, the secrets one after the other, and recovery."""

from mdm import mqtt, tls
from mdm.storage import dumps


def dial(device, profile, port, context, connect):
    """Return a connection to a broker, logged in with CONNECT; raise OSError or RefusedError."""
    days = []

    def see(certificate, _depth):
        """Note when a certificate of the server begins; 0 leaves mbedTLS's own verdict as it is."""
        days.append(tls.first_day(certificate) or 0)
        return 0

    if context is not None:
        context.verify_callback = see
    try:
        return _opened(device, profile["mqtt_host"], port, context, connect)
    except OSError as error:
        # To a clock that was never set each certificate is one of the future. All is checked again with one.
        if error.args[0] != tls.VERIFY_FAILED or not days or not tls.correct_board_clock(max(days)):
            raise
        return _opened(device, profile["mqtt_host"], port, context, connect)


def log_in(device):
    """Return a connection and the slot that the broker has taken; raise OSError.

    If it refuses each, the device recovers, and the next try has another secret.
    """
    profile = device.profiles.profile
    join(device, profile)
    for slot in device.credentials.login_order():
        try:
            return _with_slot(device, profile, slot), slot
        except mqtt.RefusedError:
            device.credentials.on_refused()
            device.log(f"login: generation {slot['generation']} is refused", "warning")
    _recover(device, profile)
    raise OSError("the broker refuses every secret")


def join(device, profile):
    """Join the networks of a profile, else of the package or of the application, if it has any; raise OSError."""
    if device.networks:
        from mdm import wifi

        if not wifi.join(profile.get("wifi") or device.package.get("wifi") or device.networks):
            raise OSError("no network takes this device")


def _with_slot(device, profile, slot):
    client_id, password = device.package["client_id"], slot["secret"]
    if profile["mqtt_auth"] == "token":
        from mdm import token

        context = device.profiles.tls
        if context is None and profile["token_url"].startswith("https:"):
            context = tls.context(profile["ca_certificate"])
        password = token.fetch(profile["token_url"], client_id, password, context, device.answer_ms // 1000)
    will = dumps({"online": False, "secret_generation": slot["generation"]})
    will = (f"mdm/v1/d/{client_id}/up/status", will)
    connect = mqtt.connect_packet(client_id, client_id, password, will, keepalive_s=device.keepalive_s)
    return dial(device, profile, profile["mqtt_port"], device.profiles.tls, connect)


def _recover(device, profile):
    way = device.key.recovery()
    if way is None:
        return
    from mdm.recovery import recover

    try:
        package = recover(device, profile, dict(way, port=profile["recovery_port"] or way["port"]))
    except mqtt.RefusedError:
        package = None
    if package is not None:
        device.credentials.on_recovered(package)
        device.log(f"login: recovered generation {package['secret_generation']}")


def _opened(device, host, port, context, connect):
    link = mqtt.Connection(host, port, context, device.keepalive_s, device.answer_ms)
    try:
        link.opened(connect)
    except Exception:
        link.close()
        raise
    return link
