"""What every phasework worker does, whatever it is connected by; see docs/wire-format.md.

A connection adds: `open`, `publish` (until it is confirmed), `stop_reading`, `close`, and `self.reply`, the name of its
own queue; and it calls `hear` for each message, and acknowledges that when `hear` returns.
"""

import asyncio
import json
import os
import signal
import socket
import uuid

from handlers import HANDLERS
from jobs import Job, items, now

SLOTS = int(os.environ.get("PHASEWORK_CONCURRENCY", "16"))
DRAIN = float(os.environ.get("PHASEWORK_DRAIN_TIMEOUT", "30").removesuffix("s"))
BEAT, LEASE_AFTER, RENEW = 5, 30, 20  # seconds
QUEUES = [f"jobs.{name}.{version}" for name, version in HANDLERS]


class Worker:
    def __init__(self):
        self.id, self.started, self.draining = str(uuid.uuid4()), now(), asyncio.Event()
        self.own_queue = f"worker.{self.id}"
        self.jobs, self.done, self.slots = set(), asyncio.Queue(), asyncio.Semaphore(SLOTS)

    async def run(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.draining.set)
        await self.open()
        self.background = [asyncio.create_task(task) for task in (self.beat(), self.report(), self.lease())]
        await self.draining.wait()
        await self.stop_reading()
        await self.announce()
        await self.until_settled(DRAIN)
        for job in self.jobs:
            job.stop("draining")
        await self.until_settled(10)
        await self.publish(("presence", "WorkerGone", {"worker": self.id}))
        await self.close()

    async def until_settled(self, seconds):
        waiting = [asyncio.create_task(job.safe.wait()) for job in self.jobs]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)

    async def announce(self):
        hosted = [{"name": name, "version": version, "slots": SLOTS, "in_flight": len(self.jobs)}
                  for name, version in HANDLERS]
        me = {"worker": self.id, "host": socket.gethostname(), "pid": os.getpid(), "sdk": "python-example/1",
              "started_at": self.started, "handlers": hosted, "draining": self.draining.is_set()}
        await self.publish(("presence", "WorkerAnnounced", me))

    async def beat(self):
        while True:
            await self.announce()
            await asyncio.sleep(BEAT)

    async def hear(self, queue, kind, text, redelivered):
        """Does what a message asks for. Returns once each of its jobs is reported or leased."""
        jobs, answers = [], []
        try:
            body = json.loads(text)
            if body["v"] != 1 or (queue in QUEUES and kind not in ("Jobs", "Probe")):
                raise ValueError(f"cannot read {kind!r} of version {body['v']}")
            if kind == "Jobs":
                jobs = [Job(group, item) for group in body["groups"] for item in items(group)]
            if kind == "Probe":
                answers = [(f"coordinator.{probe['coordinator']}", "ProbeReturned", {"items": [probe]})
                           for probe in body["items"]]
        except (ValueError, KeyError, TypeError) as error:
            letter = {"id": str(uuid.uuid4()), "reason": repr(error), "at": now(), "queue": queue, "kind": kind,
                      "body": text[:100_000].decode(errors="replace"), "size": len(text)}
            answers = [("dead", "DeadLetter", letter)]
        for job in jobs:
            job.start(HANDLERS, self.slots, self.done, redelivered)
        self.jobs.update(jobs)
        if kind == "WorkersWanted":
            await self.announce()
        for job in list(self.jobs):
            if kind == "CancelJobs" and any(job.is_canceled_by(item) for item in body["items"]):
                job.stop("canceled")
            if kind == "LeasesAnswered":
                job.answered(body)
        await self.publish(*answers)
        await asyncio.gather(*(job.safe.wait() for job in jobs))

    async def report(self):
        """Publishes outcomes, as many together as have gathered and go well into a message."""
        while True:
            ended = [await self.done.get()]
            while not self.done.empty() and sum(job.size for job in ended) < 2_000_000:
                ended.append(self.done.get_nowait())
            groups = {}
            for job in ended:
                queue = f"coordinator.{job.group['coordinator']}"
                groups.setdefault(queue, []).append(job.told(outcomes=[job.outcome]))
            await self.publish(*((queue, "JobsFinished", {"worker": self.id, "groups": told})
                                 for queue, told in groups.items()))
            for job in ended:
                job.safe.set()
                self.jobs.discard(job)

    async def lease(self):
        while True:
            await asyncio.sleep(1)
            for job in [job for job in self.jobs if job.wants_lease(LEASE_AFTER, RENEW)]:
                asked = {"index": job.index, "attempt": job.attempt, "progress": job.progress}
                group = job.told(worker=self.id, reply={"queue": self.reply}, leases=[asked])
                await self.publish((f"coordinator.{job.group['coordinator']}", "Leases", {"groups": [group]}))
