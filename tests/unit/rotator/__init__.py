"""Unit tests of rotator."""
