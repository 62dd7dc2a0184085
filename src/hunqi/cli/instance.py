"""The running mirror, as commands reach it: through the socket in its data directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from hunqi.config import FlagValue, load_places, process_inputs
from hunqi.errors import UserError
from hunqi.kit.rpc import Payload, RpcCaller, RpcUnavailableError

SOCKET_NAME: Final = "fetcher.sock"
ANSWER_TIMEOUT_S: Final = 15.0
"""Longest wait for the answer to a short question."""
SILENCE_TIMEOUT_S: Final = 600.0
"""Longest silence of a long piece of work: one that tells its progress is never cut."""

Progress = Callable[[Payload], None]


class NoInstanceError(UserError):
    """No mirror runs on the data directory; the message names the next step."""

    code: ClassVar[str] = "cli.no_instance"

    def __init__(self, data_dir: Path, reason: str) -> None:
        super().__init__(
            f"no mirror runs on {data_dir} ({reason})\n"
            f"  start it:               hunqi mirror serve --data {data_dir}\n"
            "  or name another one's:  --data DIR (or HUNQI_MIRROR_DATA)"
        )
        self.data_dir = data_dir


class Instance:
    """One running mirror."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._caller = RpcCaller(data_dir / SOCKET_NAME)

    def ask(self, op: str, **payload: object) -> Payload:
        """Return the answer to a short question; raise :class:`NoInstanceError` or the mirror's own error."""
        return self._call(op, payload, on_event=None, timeout_s=ANSWER_TIMEOUT_S)

    def work(self, op: str, payload: Payload, *, on_event: Progress) -> Payload:
        """Have long work done, each event given to ``on_event``; raises as :meth:`ask` does."""
        return self._call(op, payload, on_event=on_event, timeout_s=SILENCE_TIMEOUT_S)

    def _call(self, op: str, payload: Payload, *, on_event: Progress | None, timeout_s: float) -> Payload:
        try:
            return self._caller.call(op, payload, on_event=on_event, timeout_s=timeout_s)
        except RpcUnavailableError as error:
            raise NoInstanceError(self.data_dir, _reason(error)) from error


def find_instance(data: Path | None, config: Path | None = None) -> Instance:
    """Return the mirror of ``data``, of the configuration, or of the default directory; nothing is asked yet."""
    flags: dict[str, FlagValue] = {} if data is None else {"data": str(data)}
    return Instance(load_places(process_inputs(flags, config_file=config)).data_dir)


def _reason(error: RpcUnavailableError) -> str:
    match error.__cause__:
        case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
            return "its socket is not there"
        case PermissionError():
            return "this user may not open its socket: try as the user who runs it"
        case TimeoutError():
            return "it did not answer in time"
        case _:
            return "it went away before it answered"
