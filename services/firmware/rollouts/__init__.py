"""Rollouts: firmware for many devices, in waves."""
