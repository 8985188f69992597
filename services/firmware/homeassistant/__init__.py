"""Devices as Home Assistant shows them."""
