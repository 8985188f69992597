"""Operations on configurations: a device's own, and the layers of tags."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from shared.protocol import sealed
from shared.protocol.admin.names import DeviceName, Tag
from shared.protocol.admin.operation import Nothing, Operation, Request, Result, Role
from shared.protocol.messages import Count, Document, TrialSeconds

Shown = Annotated[dict[str, Any], BeforeValidator(sealed.shown)]
"""A document with a placeholder, such as `(sealed 3f9c2a71b04e)`, for each value whose schema is `writeOnly`."""
ShownValue = Annotated[Any, BeforeValidator(sealed.shown)]
ConfigVersion = Annotated[int, Field(ge=1, le=2**63 - 1)]


class ConfigSet(Request):
    """Change a device's overrides; layers and the model's defaults fill in the rest.

    `overrides` is merged into the present ones (RFC 7396: null removes), or replaces them. `trial_seconds`: the
    device must reconnect and report within that time, or it reverts to the last good version. `expected_version`:
    the request is refused unless this is still the desired version, so that no change is overwritten. The
    placeholder of a sealed value keeps that value.
    """

    device: DeviceName
    overrides: Document
    replace: bool = False
    trial_seconds: TrialSeconds | None = None
    expected_version: ConfigVersion | None = None


class ConfigSetResult(Result):
    """The new desired version, or the old one if nothing changed."""

    client_id: str
    version: int
    changed: bool
    document: Shown


class ConfigVersionGet(Request):
    """Get a version of a device's configuration, by default the desired one."""

    device: DeviceName
    version: ConfigVersion | None = None


class ConfigHistory(Request):
    """List a page of the versions of a device's configuration; `before` is the `next` of the page before."""

    device: DeviceName
    before: ConfigVersion | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class ConfigEntry(Result):
    """A version, its author and time, and the device's report about it, if any."""

    version: int
    author: str
    created_at: AwareDatetime
    trial_seconds: int | None
    outcome: str | None
    reported_at: AwareDatetime | None


class ConfigView(ConfigEntry):
    """A version with its documents; `desired` and `reported` are the device's current versions."""

    client_id: str
    overrides: Shown
    document: Shown
    desired: int
    reported: int | None
    reported_outcome: str | None


class ConfigVersions(Result):
    """A page of versions, newest first; `next` is None on the last."""

    client_id: str
    desired: int
    versions: list[ConfigEntry]
    next: int | None = None


class ConfigDiff(Request):
    """Compare two versions: by default the desired one with its predecessor; 0 is the empty document."""

    device: DeviceName
    from_version: Count | None = None
    to_version: Count | None = None


class ConfigChange(Result):
    """A difference; `path` has the names of the objects from the outermost; an array is compared as a whole."""

    path: list[str]
    kind: Literal["added", "removed", "changed"]
    before: ShownValue = None
    after: ShownValue = None


class ConfigChanges(Result):
    """All differences between two versions, by path."""

    client_id: str
    from_version: int
    to_version: int
    changes: list[ConfigChange]


class ConfigRollback(Request):
    """Make the overrides of an old version the newest version, merged with the current defaults and layers."""

    device: DeviceName
    version: ConfigVersion


LayerPriority = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class LayerSet(Request):
    """Change the layer of a tag; a device's own overrides take precedence over it.

    `document` is merged into the present layer (RFC 7396: null removes), or replaces it: then a null removes
    values of the model's defaults or of layers below. Layers apply in the order of priority, then tag. Sealed is
    what the schema of any model seals at its place.
    """

    tag: Tag
    document: Document
    replace: bool = False
    priority: LayerPriority | None = None


class LayerRef(Request):
    """Reference to a layer."""

    tag: Tag


class LayerView(Result):
    """A layer, and its last author."""

    tag: str
    priority: int
    document: Shown
    author: str
    updated_at: AwareDatetime


class Layers(Result):
    """All layers in the order in which they apply."""

    layers: list[LayerView]


class LayerResult(Result):
    """The layer after the change, None if it was removed, and the devices that got a new version by it."""

    tag: str
    layer: LayerView | None
    devices: list[str]


CONFIG_SET = Operation("registry", "config", "set", ConfigSet, ConfigSetResult, role=Role.OPERATOR)
CONFIG_GET = Operation("registry", "config", "get", ConfigVersionGet, ConfigView, once=False, role=Role.VIEWER)
CONFIG_HISTORY = Operation(
    "registry", "config", "history", ConfigHistory, ConfigVersions, once=False, role=Role.VIEWER
)
CONFIG_DIFF = Operation("registry", "config", "diff", ConfigDiff, ConfigChanges, once=False, role=Role.VIEWER)
CONFIG_ROLLBACK = Operation("registry", "config", "rollback", ConfigRollback, ConfigSetResult, role=Role.OPERATOR)
LAYER_SET = Operation("registry", "layer", "set", LayerSet, LayerResult, role=Role.OPERATOR)
LAYER_SHOW = Operation("registry", "layer", "show", LayerRef, LayerView, once=False, role=Role.VIEWER)
LAYER_LIST = Operation("registry", "layer", "list", Nothing, Layers, once=False, role=Role.VIEWER)
LAYER_REMOVE = Operation("registry", "layer", "remove", LayerRef, LayerResult, role=Role.OPERATOR)
