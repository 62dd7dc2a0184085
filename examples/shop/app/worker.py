"""Sends what was ordered: takes numbers from the queue until SIGTERM, which it obeys between two orders."""

from __future__ import annotations

import signal
import time

import psycopg2
import redis
import shop


def main() -> None:
    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    database, queue = shop.connect_database(), shop.connect_queue()
    print("the worker waits for orders", flush=True)
    while running:
        try:
            taken = queue.blpop([shop.QUEUE], timeout=1)
            if taken is None:
                continue
            number = int(taken[1])
            with database.cursor() as cursor:
                cursor.execute("update orders set state = 'sent' where id = %s", (number,))
            print(f"order {number} is sent", flush=True)
        except redis.RedisError as error:
            print(f"the queue does not answer: {error}", flush=True)
            time.sleep(1.0)
        except psycopg2.Error as error:
            print(f"the database does not answer: {error}", flush=True)
            queue.lpush(shop.QUEUE, number)
            database = shop.connect_database()


if __name__ == "__main__":
    main()
