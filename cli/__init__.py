"""`mdm`, the admin's command line."""

from cli import lazy

lazy.put_off(
    *("backup.make", "backup.restore", "shared.runtime.environment", "shared.runtime.settings"),
    *("cli.bars", "cli.batches", "cli.client", "cli.fleet_screen", "cli.passwords", "cli.profile", "cli.tables"),
    *("cli.simulate.fates", "cli.simulate.life", "cli.simulate.screen", "cli.simulate.stock"),
    *("shared.crypto", "shared.esp32.signature", "shared.protocol.admin", "shared.protocol.messages"),
    *("shared.protocol.nvs", "shared.protocol.topics", "httpx", "importlib.metadata"),
)
