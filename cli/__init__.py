"""`mdm`, the admin's command line."""

from cli import interrupts

interrupts.end_quietly()  # first, as the following takes a moment

from cli import lazy  # noqa: E402

lazy.defer(
    *("backup.make", "backup.restore", "shared.runtime.environment", "shared.runtime.settings"),
    *(
        "cli.bars",
        "cli.batches",
        "cli.client",
        "cli.device_names",
        "cli.fleet_screen",
        "cli.passwords",
        "cli.profile",
        "cli.tables",
    ),
    *("cli.simulate.failure_modes", "cli.simulate.runner", "cli.simulate.screen", "cli.simulate.inventory"),
    *("shared.crypto", "shared.esp32.signature", "shared.protocol.admin", "shared.protocol.events"),
    *("shared.protocol.messages", "shared.protocol.nvs", "shared.protocol.topics", "shared.protocol.wording"),
    *("httpx", "importlib.metadata"),
)
