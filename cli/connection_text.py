"""Text about connection profiles."""

from __future__ import annotations

from collections.abc import Iterator

from cli import output, tables
from shared.protocol import admin


def progress(device: admin.DeviceConnectionView) -> str:
    """Return what a device uses, and what is wanted for it if that is something else, and why it has that not."""
    has = device.in_use or "that of its package"
    if device.progress == "in use":
        return f"{has}, as wanted"
    if device.progress == "as provisioned":
        return f"{has}; it has never reported one"
    text = f"{has} -> {device.wanted}"
    if device.progress == "fallback":
        return f"{text}; it cannot connect with {device.first or 'its own'}, and uses the former one"
    if device.progress == "refused":
        why = device.refused_outcome if device.refused_reason is None else device.refused_reason
        return f"{text} ({device.refused_outcome} since {output.cell(device.refused_at)}: {why})"
    sent = "not sent yet" if device.sent_id != device.wanted else f"sent {output.cell(device.sent_at)}"
    return f"{text} ({sent})"


def print_view(found: admin.ConnectionView) -> None:
    """Print a wanted profile, each value with the layer that it is from, and what a device has."""
    facts: dict[str, object] = {"profile": found.connection_id, "trial": f"{found.trial_seconds} s"}
    if found.client_id is not None and found.device is not None:
        facts = {"device": found.client_id, **facts, "in use": progress(found.device)}
        facts["fallback"] = found.device.fallback
    tables.print_all(facts)
    tables.print_table_below(
        found.values,
        (
            "field",
            ("value", lambda it: _authorities(found) if it.field == "ca_certificate" else it.value),
            ("from", lambda it: it.source if it.source == "settings" else f"{it.source} (layer {it.number})"),
        ),
    )


def _authorities(found: admin.ConnectionView) -> list[str]:
    return [f"{it.subject} until {it.ends_at:%Y-%m-%d}" for it in found.authorities]


def print_status(found: admin.ConnectionStatus) -> None:
    """Print which profiles and authorities devices use, and who depends on what."""
    tables.print_table(
        found.profiles,
        (
            "profile=connection_id",
            ("connects to", _target),
            "use=in_use, fallback, wait=waiting, refused",
        ),
        none="no device has a connection profile yet",
    )
    if found.more:
        output.print_note(f"and {found.more} more profiles")
    tables.print_table_below(
        found.authorities,
        (
            "authority=subject",
            ("ends", lambda it: f"{it.ends_at:%Y-%m-%d}"),
            ("trusted by", lambda it: it.devices),
            ("alone by", lambda it: it.alone),
        ),
    )
    for line in _conclusions(found):
        output.print_text(line)


def _target(profile: admin.ProfileUse) -> str:
    if not profile.known:
        return "not known to this database"
    host = f"[{profile.mqtt_host}]" if ":" in (profile.mqtt_host or "") else profile.mqtt_host
    parts = [f"{host}:{profile.mqtt_port}"]
    if profile.authorities:
        parts.append(counted(len(profile.authorities), "CA", "CAs"))
    return ", ".join([*parts, *(f"Wi-Fi {name}" for name in profile.wifi)])


def _conclusions(found: admin.ConnectionStatus) -> Iterator[str]:
    """Yield sentences about who depends on which authority, and what is not known."""
    unsure = ", as far as is known" if found.without_package else ""
    for it in found.authorities:
        if it.alone:
            yield f"{counted(it.alone, 'device trusts', 'devices trust')} {it.subject} alone."
        if it.claims:
            yield f"Open claims whose packages trust {it.subject} alone: {', '.join(it.claims)}."
        if not it.alone and not it.claims and len(found.authorities) > 1:
            yield f"Nobody depends on {it.subject} any more{unsure}."
    if found.as_provisioned:
        devices = counted(found.as_provisioned, "device has", "devices have")
        yield f"{devices} never reported a profile: counted by their package."
    if found.without_package:
        devices = counted(found.without_package, "device", "devices")
        yield f"Nothing is known of {devices} whose package is older than profiles."
    if found.on_fallback:
        devices = counted(found.on_fallback, "device runs on its fallback", "devices run on their fallback")
        yield f"{devices}: see `mdm doctor`."


def counted(number: int, one: str, many: str) -> str:
    """Return a number of things, named as one or as many."""
    return f"{number} {one if number == 1 else many}"


def layer_number(layer: admin.ConnectionLayerView) -> str:
    """Return a layer's number, with a * if it is in force."""
    return f"{layer.number} *" if layer.in_force else str(layer.number)


def layer_target(layer: admin.ConnectionLayerView) -> str:
    """Return the devices that a layer is for."""
    return layer.client_id or (f"tag {layer.tag}" if layer.tag else layer.scope)


def layer_values(layer: admin.ConnectionLayerView) -> str:
    """Return what a layer sets, as text."""
    if layer.removed:
        return "removed"
    values = [f"{name}={_brief(name, value)}" for name, value in layer.document.items()]
    if layer.trial_seconds is not None:
        values.append(f"trial_seconds={layer.trial_seconds}")
    return ", ".join(values)


def _brief(name: str, value: object) -> object:
    match name, value:
        case "ca_certificate", str(pem):
            return counted(pem.count("BEGIN CERTIFICATE"), "CA", "CAs")
        case "wifi", list(networks):
            return "+".join(str(it["ssid"]) for it in networks)
    return value
