"""Kills, outages, lost and doubled messages, stores put back: no device is locked out."""
