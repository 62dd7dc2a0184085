"""The only wiring of whole programs: settings in, a running product out."""

from __future__ import annotations

from collections.abc import Callable

from hunqi.mirror.process.child import begin_logging
from hunqi.mirror.process.fetcher import run_fetcher
from hunqi.mirror.process.supervisor import Supervisor
from hunqi.mirror.process.worker import run_worker
from hunqi.mirror.settings import Address, MirrorSettings


def serve_mirror(
    settings: MirrorSettings,
    *,
    reload: Callable[[], MirrorSettings] | None = None,
    on_listening: Callable[[Address], None] = lambda _address: None,
) -> int:
    """Serve a mirror in the foreground until SIGTERM or SIGINT; return the exit status.

    ``reload`` reads the settings again (SIGHUP). ``on_listening`` is told the address once clients may come.
    Raises ``AlreadyServingError`` and ``ListenError``.
    """
    begin_logging()
    return Supervisor(
        settings=settings,
        fetcher_main=run_fetcher,
        worker_main=run_worker,
        reload=reload,
        on_listening=on_listening,
    ).run()
