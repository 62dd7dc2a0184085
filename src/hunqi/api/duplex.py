"""A client's WebSocket joined to a channel of a task: frames pass as they are, at the pace of the slower end."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AbstractAsyncContextManager, suppress
from typing import cast

from fastapi import WebSocket, WebSocketDisconnect

from hunqi.api.ports import Channel
from hunqi.api.problems import problem_of
from hunqi.errors import HunqiError

_log = logging.getLogger(__name__)
_GOING_WRONG = 1011


async def pump(socket: WebSocket, source: AbstractAsyncContextManager[Channel]) -> None:
    """Join ``socket`` (accepted) to the channel that ``source`` opens, until either ends; the socket is closed then.

    An error of ours becomes a last text frame ``{"error": {"code", "message"}}``.
    """
    code = 1000
    try:
        async with source as channel, asyncio.TaskGroup() as tasks:
            up = tasks.create_task(_up(socket, channel))
            down = tasks.create_task(_down(socket, channel))
            up.add_done_callback(lambda _: down.cancel())
            down.add_done_callback(lambda _: up.cancel())
    except* HunqiError as group:
        error = next(each for each in _flat(group) if isinstance(each, HunqiError))
        code = _GOING_WRONG
        with suppress(RuntimeError, WebSocketDisconnect):
            problem = problem_of(error)
            await socket.send_text(json.dumps({"error": {"code": problem["code"], "message": problem["detail"]}}))
    except* (WebSocketDisconnect, ConnectionError):
        code = _GOING_WRONG
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code)


async def _up(socket: WebSocket, channel: Channel) -> None:
    """From the client to the task."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        frame = message.get("bytes") if message.get("bytes") is not None else message.get("text")
        if frame is not None:
            await channel.send(frame)


async def _down(socket: WebSocket, channel: Channel) -> None:
    """From the task to the client."""
    while (frame := await channel.receive()) is not None:
        if isinstance(frame, str):
            await socket.send_text(frame)
        else:
            await socket.send_bytes(frame)


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            found += _flat(cast("BaseExceptionGroup[BaseException]", each))
        else:
            found.append(each)
    return found
