"""Each feature on the real stack."""
