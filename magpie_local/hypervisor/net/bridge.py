"""What an Ethernet switch does with a frame: learns where its sender is, and finds where its receiver is."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

#: Addresses remembered; a guest that invents more only makes the switch send its frames to all.
_LIMIT = 4096
_SHORTEST = 14
#: Too short for a frame: it comes back, and tells whoever sent it that the switch lives and has taken its port.
PING = b"ping"
_GROUP_BIT = 0x01


class Bridge:
    """Which port is which address at. Ports are numbers of the caller's."""

    def __init__(self) -> None:
        self.ports: set[int] = set()
        self._places: dict[bytes, int] = {}

    def remove(self, port: int) -> None:
        """Forget a port and all that was behind it."""
        self.ports.discard(port)
        self._places = {address: place for address, place in self._places.items() if place != port}

    def targets(self, port: int, frame: memoryview | bytes) -> Collection[int]:
        """Return the ports that a frame from `port` goes to: never `port` itself, except for a ping (see PING)."""
        if len(frame) < _SHORTEST:
            return (port,)
        receiver, sender = bytes(frame[:6]), bytes(frame[6:12])
        if not sender[0] & _GROUP_BIT and (sender in self._places or len(self._places) < _LIMIT):
            self._places[sender] = port
        place = None if receiver[0] & _GROUP_BIT else self._places.get(receiver)
        if place is None:
            return self.ports - {port}
        return (place,) if place != port else ()
