"""Owns whether a dashboard is one by Grafana's own schema. Must not know what its panels ask for.

Usage: dashboard.py FILE. It is read and written again by the types that Grafana generates from its schema: what these do not know is
lost on the way.
"""

import json
import sys

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

# What Grafana writes itself and has in no schema.
UNKNOWN = ["definition"]


def lost(given, kept, path=""):
    """Where something was lost."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from lost(value, kept[key], f"{path}/{key}")
            elif key not in UNKNOWN:
                yield f"{path}/{key}"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, pair in enumerate(zip(given, kept)):
            yield from lost(*pair, f"{path}/{index}")
    elif given != kept:
        yield f"{path}: {given!r} became {kept!r}"


def main():
    """Exits with 1 where the schema does not know something."""
    plugins.register_default_plugins()
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
    wrong = list(lost(given, kept))
    for place in wrong:
        print("not in Grafana's schema:", place, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
