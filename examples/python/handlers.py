"""What the example workers do: two handlers, as async functions from a job's input to its output.

`job` has `run`, `entry`, `index`, `attempt`, `data` (the run's data) and `progress`, which a handler may set to 0..100.
Whatever is raised fails the attempt, and the job is tried again; `GiveUp` fails it for good.
"""

import asyncio
import collections

from jobs import GiveUp


async def count_words(text, job):
    if not isinstance(text, str):
        raise GiveUp(f"a text is wanted, not {type(text).__name__}")
    words = [word.strip(".,;:!?\"'()").lower() for word in text.split()]
    counted = collections.Counter(word for word in words if word)
    # Ties in the order of the alphabet, so that a job that is run twice gives the same.
    most = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:3]
    return {"words": counted.total(), "most": [word for word, _ in most]}


async def certify(order, job):
    """Does what `phasework certify` asks for; see docs/certify.md."""
    if not isinstance(order, dict) or "do" not in order:
        return {"input": order, "data": job.data}
    match order["do"]:
        case "echo":
            return order.get("value")
        case "fail":
            raise RuntimeError(order["message"])
        case "give-up":
            raise GiveUp(order["message"])
        case "wait":
            for step in range(100):
                job.progress = step
                await asyncio.sleep(order["ms"] / 100_000)
            return "waited"
        case "large":
            return "x" * order["bytes"]
        case other:
            raise GiveUp(f"cannot do {other!r}")


HANDLERS = {("WordCounter", "1.0.0"): count_words, ("Certify", "1.0.0"): certify}
