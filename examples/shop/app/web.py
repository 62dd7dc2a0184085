"""The shop's front: a page, and orders as JSON. SIGTERM ends it after the answers that are under way."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis
import shop

FAILS = float(os.environ.get("SHOP_FAILS") or 0)
"""Percent of pages that fail, to see a bad revision turned away."""
_LOCAL = threading.local()
_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{name}</title>
<h1>{name}</h1>
<p>{sent} orders sent, {waiting} waiting. Answered by {task}.</p>
<form method="post" action="/orders"><input name="item" value="tea"><button>Order</button></form>
"""


def database() -> psycopg2.extensions.connection:
    """Return this thread's connection, a new one if the last has gone."""
    held = getattr(_LOCAL, "database", None)
    if held is None or held.closed:
        held = _LOCAL.database = shop.connect_database()
    return held


class Front(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    timeout = 120  # longer than the gateway keeps an idle connection

    def handle_one_request(self) -> None:
        """Read a request, then answer it; only the second is waited for at the end."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        with ANSWERS:
            if not self.parse_request():
                return
            method = getattr(self, f"do_{self.command}", None)
            if method is None:
                self.send_error(501)
                return
            method()
            self.wfile.flush()

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200, {"ok": True})
        elif self.path == "/orders":
            self._with_orders(lambda rows: self._answer(200, rows))
        elif self.path == "/":
            self._with_orders(self._page)
        else:
            self._answer(404, {"error": "there is no such page"})

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 10_000)).decode(errors="replace")
        item = body.removeprefix("item=").strip()[:80] or "tea"
        if self.path != "/orders":
            self._answer(404, {"error": "there is no such page"})
            return
        try:
            with database().cursor() as cursor:
                cursor.execute("insert into orders (item) values (%s) returning id", (item,))
                number = cursor.fetchone()[0]
            shop.connect_queue().rpush(shop.QUEUE, number)
        except (psycopg2.Error, redis.RedisError) as error:
            self._fail(error)
            return
        self._answer(201, {"id": number, "item": item})

    def _with_orders(self, use) -> None:
        try:
            with database().cursor() as cursor:
                cursor.execute("select id, item, state from orders order by id desc limit 50")
                rows = [{"id": number, "item": item, "state": state} for number, item, state in cursor]
        except psycopg2.Error as error:
            self._fail(error)
            return
        use(rows)

    def _page(self, rows: list[dict[str, object]]) -> None:
        if random.random() * 100 < FAILS:
            self._answer(500, {"error": "a fault of this revision"})
            return
        sent = sum(row["state"] == "sent" for row in rows)
        name = os.environ.get("SHOP_NAME", "The shop")
        text = _PAGE.format(name=name, sent=sent, waiting=len(rows) - sent, task=socket.gethostname())
        self._send(200, "text/html; charset=utf-8", text.encode())

    def _fail(self, error: Exception) -> None:
        _LOCAL.database = None
        self.log_message("%s", error)
        self._answer(503, {"error": "the shop's database or queue does not answer"})

    def _answer(self, status: int, value: object) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Answers:
    """How many answers are under way."""

    def __init__(self) -> None:
        self._count, self._changed = 0, threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_for_none(self, timeout_s: float) -> None:
        """Return when no answer is under way, or after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, timeout_s)


ANSWERS = Answers()


def main() -> None:
    ThreadingHTTPServer.daemon_threads = True  # connections that idle are not waited for
    server = ThreadingHTTPServer(("0.0.0.0", 8080), Front)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("the shop is open at port 8080", flush=True)
    server.serve_forever(poll_interval=0.2)
    ANSWERS.wait_for_none(timeout_s=8.0)
    print("the shop is closed", flush=True)


if __name__ == "__main__":
    main()
