"""Unit tests of device."""
