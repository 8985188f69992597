import pytest

from shared.protocol import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run


@pytest.mark.parametrize("service", ["registry", "rotator", "firmware"])
@pytest.mark.parametrize(("unreadable", "status"), [([], 0), (["iotdevice-lamp-abcd1234"], 1)])
def test_rekey_fails_when_a_key_is_missing_and_names_the_devices(
    fake: fakes.FakeAdmin, mdm: Run, service: str, unreadable: list[str], status: int
) -> None:
    none = admin.SecretsRekeyed(reencrypted=3, unreadable=admin.Named.of([]))
    fake.answers = {f"{name}.secrets.rekey": none for name in ("registry", "rotator", "firmware")}
    fake.answers[f"{service}.secrets.rekey"] = admin.SecretsRekeyed(
        reencrypted=3, unreadable=admin.Named.of(unreadable)
    )
    result = mdm("secrets", "rekey")
    assert result.exit_code == status
    assert [line.split()[-2] for line in result.stdout.splitlines()[1:]] == ["3", "3", "3"]
    assert all(name in result.stderr for name in unreadable)
    assert mdm("secrets", "rekey", "--json").exit_code == status
