"""A device in one file of plain Python, as a stranger would write it."""
