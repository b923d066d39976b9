"""A phasework worker over AMQP: PHASEWORK_URL=amqp://127.0.0.1:5672 python3 amqp_worker.py"""

import asyncio
import contextlib
import json
import logging
import os

import aio_pika
from aio_pika.exceptions import AMQPError
from worker import QUEUES, SLOTS, Worker

PREFIX = os.environ.get("PHASEWORK_PREFIX", "phasework")
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 2147483647}
FANOUT = {"type": aio_pika.ExchangeType.FANOUT, "durable": True}


class AmqpWorker(Worker):
    async def open(self):
        # One connection to publish and one to consume: under a memory alarm a broker stops reading from publishers.
        url = os.environ.get("PHASEWORK_URL", "amqp://127.0.0.1:5672")
        self.connections = await aio_pika.connect_robust(url), await aio_pika.connect_robust(url)
        self.channel, channel = [await connection.channel() for connection in self.connections]
        self.presence = await self.channel.declare_exchange(f"{PREFIX}.presence", **FANOUT)
        self.reply = f"{PREFIX}.{self.own_queue}"
        own = await channel.declare_queue(self.reply, exclusive=True)
        await own.consume(self.deliver)
        for name in ("presence", "control"):
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(await channel.declare_exchange(f"{PREFIX}.{name}", **FANOUT))
            await queue.consume(self.deliver)
        await channel.set_qos(prefetch_count=SLOTS)
        queues = [await channel.declare_queue(f"{PREFIX}.{name}", durable=True, arguments=QUORUM) for name in QUEUES]
        self.consumers = [(queue, await queue.consume(self.deliver)) for queue in queues]

    async def deliver(self, message):
        queue = message.routing_key.removeprefix(f"{PREFIX}.")
        await self.hear(queue, message.type or "", message.body, bool(message.redelivered))
        with contextlib.suppress(AMQPError, ConnectionError):  # then it comes again, and is handed back
            await message.ack()

    async def publish(self, *messages):
        for to, kind, body in messages:
            to_all = to == "presence"
            exchange, key = (self.presence, "") if to_all else (self.channel.default_exchange, f"{PREFIX}.{to}")
            text = json.dumps({"v": 1, **body}, ensure_ascii=False).encode()
            message = aio_pika.Message(text, type=kind, content_type="application/json", delivery_mode=2)
            while True:  # everybody is prepared for what comes twice
                try:
                    await exchange.publish(message, key, mandatory=not to_all, timeout=30)
                    break
                except (AMQPError, ConnectionError, asyncio.TimeoutError) as error:
                    logging.warning("%s is published again: %r", kind, error)
                    await asyncio.sleep(1)

    async def stop_reading(self):
        for queue, tag in self.consumers:
            await queue.cancel(tag)

    async def close(self):
        await asyncio.gather(*(connection.close() for connection in self.connections))


asyncio.run(AmqpWorker().run())
