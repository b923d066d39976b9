"""A phasework worker over HTTP, with nothing but Python: PHASEWORK_URL=http://127.0.0.1:7180 python3 http_worker.py"""

import asyncio
import base64
import contextlib
import http.client
import json
import logging
import os
import threading
import urllib.parse

from worker import QUEUES, SLOTS, Worker

URL = urllib.parse.urlsplit(os.environ.get("PHASEWORK_URL", "http://127.0.0.1:7180"))
HEADERS = {"Content-Type": "application/json"}
if "PHASEWORK_TOKEN" in os.environ:
    HEADERS["Authorization"] = f"Bearer {os.environ['PHASEWORK_TOKEN']}"
LOCAL = threading.local()  # a connection for each thread that asks


class Away(Exception):
    """The gateway cannot be reached, or does not know the session any more, or cannot do it now."""


def ask(method, path, body):
    kind = http.client.HTTPSConnection if URL.scheme == "https" else http.client.HTTPConnection
    LOCAL.connection = getattr(LOCAL, "connection", None) or kind(URL.netloc, timeout=60)
    try:
        LOCAL.connection.request(method, f"/v1/gateway/{path}", json.dumps(body).encode(), HEADERS)
        answer = LOCAL.connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        LOCAL.connection.close()
        raise Away(repr(error)) from error
    if answer.status >= 300:
        raise Away(f"{method} {path}: {answer.status} {text.decode()}")
    return json.loads(text) if text else None


async def call(method, path, body=None):
    return await asyncio.to_thread(ask, method, path, body)


class HttpWorker(Worker):
    async def open(self):
        self.session, self.opened, self.hearing = None, asyncio.Event(), set()
        self.reading = asyncio.create_task(self.read())
        await self.opened.wait()

    async def read(self):
        """Reads within one session after the other. What was not acknowledged in one that ended comes again."""
        while True:
            try:
                opened = await call("POST", "sessions", {"name": "python"})
                self.session, self.reply = f"sessions/{opened['session']}", opened["prefix"] + self.own_queue
                for queue in ["presence", "control", self.own_queue, *([] if self.draining.is_set() else QUEUES)]:
                    await call("PUT", f"{self.session}/subscriptions/{queue}", {"from": queue, "prefetch": SLOTS})
                self.opened.set()
                after = 0
                while True:
                    for delivery in (await call("POST", f"{self.session}/next", {"after": after}))["deliveries"]:
                        after = delivery["n"]
                        self.hearing.add(asyncio.create_task(self.deliver(self.session, delivery)))
                    self.hearing = {task for task in self.hearing if not task.done()}
            except Away as error:
                logging.warning("another session is opened: %s", error)
                await asyncio.sleep(1)

    async def deliver(self, session, delivery):
        is_json = "body" in delivery
        text = json.dumps(delivery["body"]).encode() if is_json else base64.b64decode(delivery.get("body_base64", ""))
        await self.hear(delivery["subscription"], delivery["type"], text, delivery["redelivered"])
        with contextlib.suppress(Away):  # then it comes again, and is handed back
            await call("POST", f"{session}/settle", {"ack": [delivery["n"]]})

    async def publish(self, *messages):
        left = [{"to": to, "type": kind, "body": {"v": 1, **body}} for to, kind, body in messages]
        while left:  # everybody is prepared for what comes twice
            try:
                results = (await call("POST", "publish", {"messages": left}))["results"]
                left = [message for message, result in zip(left, results) if result["status"] == "unconfirmed"]
            except Away as error:
                logging.warning("published again: %s", error)
                await asyncio.sleep(1)

    async def stop_reading(self):
        with contextlib.suppress(Away):  # a session that has ended reads nothing
            for queue in QUEUES:
                await call("POST", f"{self.session}/subscriptions/{queue}/stop")

    async def close(self):
        self.reading.cancel()
        with contextlib.suppress(Away):
            await call("DELETE", self.session)


asyncio.run(HttpWorker().run())
