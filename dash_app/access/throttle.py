"""Failed tries to log in slow down whoever makes them."""

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

MOST_TRIES = 5
WINDOW_SECONDS = 300.0
# Each try costs a password check, and two of these run at a time: whoever would push an entry out
# by so many others needs longer than the entry counts.
MOST_KEYS = 10_000
_LONGEST_NAME = 100
_IPV6_NETWORK = 64

Key = tuple[str, str]


class Throttle:
    """Counts tries by name and client over the last minutes, in bounded memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Count nothing yet; clock: seconds that only grow."""
        self._clock = clock
        self._tries: OrderedDict[Key, deque[float]] = OrderedDict()

    def wait_seconds(self, key: Key) -> int:
        """Return how long the next try has to wait, and count it where that is 0.

        It counts before it failed: tries at the same moment are not more than others.
        """
        now = self._clock()
        tries = self._tries.setdefault(key, deque(maxlen=MOST_TRIES))
        self._tries.move_to_end(key)
        while len(self._tries) > MOST_KEYS:
            self._tries.popitem(last=False)
        while tries and now - tries[0] >= WINDOW_SECONDS:
            tries.popleft()
        if len(tries) == MOST_TRIES:
            return max(1, math.ceil(tries[0] + WINDOW_SECONDS - now))
        tries.append(now)
        return 0

    def forgive(self, key: Key) -> None:
        """Forget the tries: one was right."""
        self._tries.pop(key, None)


def key_of(name: str, client: str) -> Key:
    """Return what tries are counted by: a name, and a client or its whole IPv6 network."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return name[:_LONGEST_NAME], client
    if address.version == 6:  # noqa: PLR2004 - the protocol's own number
        client = str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))
    return name[:_LONGEST_NAME], client
