"""The device's rules of a rotation, without I/O, as in docs/protocol.md.

A slot is a dict with `secret`, `generation` and `rotation_id`, None for a secret that no rotation brought. `slots`
is the pair of the first, which is confirmed, and the second, on trial or None. `wanted` is an accepted offer.
Times are seconds since 1970; a `now` of None is not known, and then nothing is over.
"""

KEEP = "keep"
PROMOTE = "promote"
DISCARD = "discard"


def login_order(slots, spare=None):
    """Return the slots to try, best first, each only after the broker has refused the previous one.

    A `spare` is the package's: it is tried last, if it is newer than the first and not in the second.
    """
    first, second = slots
    order = [first] if second is None else [second, first]
    return order + [spare] if spare and is_spare(slots, spare) else order


def is_spare(slots, spare):
    """Return whether the package's secret is newer than the first slot's and not in the second."""
    first, second = slots
    in_second = second is not None and second["generation"] == spare["generation"]
    return not in_second and spare["generation"] > first["generation"]


def changed(slots, change):
    """Return the slots after a change; to promote an empty second slot is a ValueError."""
    first, second = slots
    if change == PROMOTE and second is None:
        raise ValueError("the second slot is empty and cannot be promoted")
    return slots if change == KEEP else (second if change == PROMOTE else first, None)


def adopted(slots, spare):
    """Return the slots after the server has confirmed the package's generation: older secrets are invalid."""
    second = slots[1]
    return spare, second if second is not None and second["generation"] > spare["generation"] else None


def recovered(slots, slot):
    """Return the slots with a recovered secret on trial; a login confirms it."""
    first, second = slots
    if slot["secret"] == first["secret"]:
        return dict(first, generation=slot["generation"]), None
    if second is not None and slot["secret"] == second["secret"]:
        return first, dict(second, generation=slot["generation"])
    return first, slot


def is_over(deadline, now):
    """Return whether a deadline is over."""
    return now is not None and deadline <= now


def on_offer(slots, wanted, offer, now):
    """Return the change of the slots, the offer wanted from now on, and whether to send what is due.

    `deadline` of the offer is in seconds. Its present generation settles an older trial first.
    """
    first, second = slots
    if second is not None and offer["rotation_id"] == second["rotation_id"]:
        return KEEP, wanted, True
    if offer["generation"] <= max(slot["generation"] for slot in login_order(slots)):
        return KEEP, wanted, False
    current = offer["current_generation"]
    if second is not None and current == second["generation"]:
        change = PROMOTE
    elif current != first["generation"]:
        return KEEP, wanted, False
    else:
        change = KEEP if second is None else DISCARD
    another = wanted is not None and wanted["rotation_id"] != offer["rotation_id"]
    # Generations only grow, so the lower one of two offers is the older one.
    if another and offer["generation"] <= wanted["generation"]:
        return change, wanted, False
    if is_over(offer["deadline"], now):
        return change, None, False
    return change, offer, True


def takes_secret(slots, wanted, secret, now):
    """Return whether a secret belongs to the wanted offer, is in time, and may go into the second slot."""
    return (
        wanted is not None
        and slots[1] is None
        and not is_over(wanted["deadline"], now)
        and secret["rotation_id"] == wanted["rotation_id"]
        and secret["generation"] == wanted["generation"]
    )


def on_ended(slots, rotation_id, change):
    """Return the change for `done` (PROMOTE) or `cancelled` (DISCARD), none for another slot's rotation."""
    second = slots[1]
    return change if second is not None and second["rotation_id"] == rotation_id else KEEP


def on_confirmed(slots, generation):
    """Promote the second slot if the server has confirmed its generation."""
    second = slots[1]
    return PROMOTE if second is not None and second["generation"] == generation else KEEP


def must_switch(slots, login, rotation_id):
    """Return whether to log in again, now that the broker requires this secret; `login` is a generation."""
    second = slots[1]
    return second is not None and second["rotation_id"] == rotation_id and login != second["generation"]


def is_orphan(slots, login):
    """Return whether the secret of the present login is in no slot any more."""
    return login is not None and login not in [slot["generation"] for slot in login_order(slots)]


def due(slots, wanted, login, now):
    """Return the message that is due, `request`, `stored` or `ack`, or None."""
    first, second = slots
    if second is not None:
        if login == second["generation"]:
            return "ack"
        return "stored" if login == first["generation"] else None
    if wanted is not None and login is not None and not is_over(wanted["deadline"], now):
        return "request"
    return None
