"""Devices in Home Assistant."""
