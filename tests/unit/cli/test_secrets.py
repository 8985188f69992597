import pytest

from shared import admin
from tests.unit.cli import fakes
from tests.unit.cli.conftest import Run


@pytest.mark.parametrize(("unreadable", "status"), [([], 0), (["iotdevice-lamp-abcd1234"], 1)])
def test_rekey_fails_when_a_key_is_missing_and_names_the_devices(
    fake: fakes.FakeAdmin, mdm: Run, unreadable: list[str], status: int
) -> None:
    fake.answers["rotator.secrets.rekey"] = admin.SecretsRekeyed(
        reencrypted=3, unreadable=admin.Named.of(unreadable)
    )
    result = mdm("secrets", "rekey")
    assert result.exit_code == status
    assert result.stdout.splitlines()[0].split() == ["encrypted", "anew", "3"]
    assert all(name in result.stderr for name in unreadable)
    assert mdm("secrets", "rekey", "--json").exit_code == status
