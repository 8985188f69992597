"""Runs on MicroPython: calls functions of `mdm.rotation` and `mdm.clock` with arguments, and prints their results.

Its second argument is a file of JSON: a list of a name and its arguments.
"""

import json
import sys

sys.path[:0] = [sys.argv[1]]

from mdm import clock, rotation

with open(sys.argv[2]) as file:
    calls = json.load(file)
for name, arguments in calls:
    rule = clock.seconds if name == "seconds" else getattr(rotation, name)
    print(json.dumps(rule(*arguments)))
