"""The tests: unit, on the real stack, of faults, of attacks, of the page."""
