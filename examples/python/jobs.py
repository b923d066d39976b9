"""One attempt of a job, whatever its message came over: runs it, and knows what is to be told of it."""

import asyncio
import datetime
import json
import time

MOST_BYTES = 1 << 20  # of an output


class GiveUp(Exception):
    """Fails the job for good: trying again would not help."""


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def items(group):
    first, count = group.get("range", (0, 0))
    return [{"index": index, "attempt": 1} for index in range(first, first + count)] + group.get("jobs", [])


class Job:
    def __init__(self, group, item):
        self.group, self.index, self.attempt, self.data = group, item["index"], item["attempt"], group.get("data")
        self.input = item["input"] if "input" in item else self.data if group["input"] == "data" else self.index
        self.began, self.leased, self.progress, self.stopped = time.monotonic(), None, None, None
        self.safe = asyncio.Event()  # once it is reported or leased: its message may then be acknowledged

    def start(self, handlers, slots, done, redelivered):
        self.task = asyncio.create_task(self.run(handlers, slots, done, redelivered))

    def stop(self, why):
        self.stopped = why
        asyncio.get_running_loop().call_soon(self.task.cancel)  # not before it has begun

    async def run(self, handlers, slots, done, redelivered):
        handler = handlers.get((self.group["handler"], self.group["version"]))
        try:
            if redelivered:
                self.outcome = failure("returned", "redelivered", "the message was delivered before")
            elif self.group.get("enumerate"):
                raise GiveUp("this worker's handlers do not list their jobs")
            elif handler is None:
                self.outcome = failure("returned", "other-version", "this worker does not have that version")
            else:
                async with slots:
                    output = await asyncio.wait_for(handler(self.input, self), self.group["timeout_ms"] / 1000)
                size = len(json.dumps(output, ensure_ascii=False, allow_nan=False).encode())
                if size > MOST_BYTES:
                    raise GiveUp(f"the output has {size} bytes; at most {MOST_BYTES} are taken")
                self.outcome = {"status": "done", "output": output}
        except asyncio.CancelledError:
            self.outcome = failure("returned", self.stopped, "it was stopped before it was done")
        except asyncio.TimeoutError:
            self.outcome = failure("failed", "timeout", f"not done within {self.group['timeout_ms']} ms")
        except Exception as error:
            self.outcome = failure("failed", "error", str(error) or repr(error), retry=not isinstance(error, GiveUp))
        self.outcome |= {"index": self.index, "attempt": self.attempt}
        self.size = len(json.dumps(self.outcome))
        await done.put(self)

    def told(self, **more):
        return {key: self.group[key] for key in ("run", "entry", "nonce", "handler")} | more

    def is_canceled_by(self, item):
        return self.group["run"] == item["run"] and self.group["entry"] <= item["entry"]

    def wants_lease(self, after, renewal):
        return time.monotonic() > (self.began + after if self.leased is None else self.leased + renewal)

    def answered(self, body):
        """The answer to a request for leases: whether this attempt still matters."""
        for answer in body["answers"] if self.told().items() <= body.items() else []:
            if (answer["index"], answer["attempt"]) == (self.index, self.attempt):
                self.leased = time.monotonic()
                self.safe.set() if "leased_ms" in answer else self.stop("canceled")


def failure(status, kind, message, **more):
    return {"status": status, "error": {"kind": kind, "message": message, **more}}
