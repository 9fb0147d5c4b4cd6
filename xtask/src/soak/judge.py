"""Owns the judgement of a soak: whether what was looked at kept rising, whatever the noise.
Must not know what was done to the agent, or how it was looked at.

Run by itself it reads `{"seconds": [...], "values": [...]}` and prints the rise a minute, for the tests.
"""

import json
import statistics
import sys

# In the first third everything is met that there is.
WARM_UP_SHARE = 1 / 3

# A leak of 4 MiB a minute must not pass, and what tables take until they are full must.
RISE_MIB_A_MINUTE = 2.0

# With fewer looks there is nothing to be judged.
LOOKS_MIN = 8


def rise_a_minute(seconds, values):
    """The rise of a series a minute after the warm-up: the median of the slopes of all pairs (Theil and Sen), which a
    third of the values may miss by however much."""
    begin = seconds[0] + (seconds[-1] - seconds[0]) * WARM_UP_SHARE
    looks = [it for it in zip(seconds, values) if it[0] >= begin]
    if len(looks) < LOOKS_MIN:
        raise SystemExit(f"soak: {len(looks)} looks are too few to judge by: let it run for longer")
    slopes = [(later[1] - earlier[1]) / (later[0] - earlier[0]) * 60
              for index, earlier in enumerate(looks) for later in looks[index + 1:] if later[0] > earlier[0]]
    return statistics.median(slopes)


if __name__ == "__main__":
    series = json.load(sys.stdin)
    print(rise_a_minute(series["seconds"], series["values"]))
