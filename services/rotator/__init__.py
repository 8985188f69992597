"""The rotation of devices' secrets."""
