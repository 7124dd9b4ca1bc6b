"""An order to run a script, while its bytes come in."""

from __future__ import annotations

from magpie_local.guest.agent.parcel import Parcel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class RunOrder(Parcel):
    """An order and its script.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the message is no such order.
    """

    def __init__(self, message: dict[str, Any], path: str) -> None:
        self.attempt = str(message["attempt"])
        self.nonce = str(message["nonce"])
        self.timeout = None if message["timeout"] is None else float(message["timeout"])
        self.env = {str(key): str(value) for key, value in message["env"].items()}
        #: The guest stays when the script has ended.
        self.persistent = message.get("persistent") is True
        self.log_limit = int(message["log_limit"])
        #: Values that the log must not show.
        self.mask = texts(message.get("mask", []))
        #: Patterns of files to hand over when it has ended, and most bytes of them.
        self.outputs = texts(message.get("outputs", []))
        self.outputs_limit = int(message.get("outputs_limit", 0))
        self.now = float(message["now"])
        self.entropy = bytes.fromhex(message["entropy"])
        super().__init__("run", path, int(message["script_size"]), int(message["script_crc"]))


def texts(value: object) -> list[str]:
    """Return a list of texts as it is.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError("not a list of texts")
    return value
