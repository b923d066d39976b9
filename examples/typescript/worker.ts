/** A phasework worker over HTTP, from docs/wire-format.md alone: PHASEWORK_URL=http://127.0.0.1:7180 npm start */

import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { handlers } from "./handlers.js";
import { Job, Slots, items } from "./jobs.js";

const env = process.env;
const gateway = `${env.PHASEWORK_URL ?? "http://127.0.0.1:7180"}/v1/gateway`;
const headers: Record<string, string> = { "content-type": "application/json" };
if (env.PHASEWORK_TOKEN !== undefined) headers.authorization = `Bearer ${env.PHASEWORK_TOKEN}`;
const concurrency = Number(env.PHASEWORK_CONCURRENCY ?? 16);
const drainMs = parseFloat(env.PHASEWORK_DRAIN_TIMEOUT ?? "30") * 1000;
const [id, started_at, slots] = [randomUUID(), new Date().toISOString(), new Slots(concurrency)];
const queues = Object.keys(handlers).map((handler) => `jobs.${handler}`);
const jobs = new Set<Job>();
let [session, reply, draining] = ["", "", false];

type Message = { to: string; type: string; body: Record<string, unknown> };
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Makes a request. Throws when the gateway is away, or does not know the session any more. */
async function call(method: string, path: string, body: unknown = {}): Promise<any> {
  const signal = AbortSignal.timeout(60_000);
  const answer = await fetch(`${gateway}/${path}`, { method, headers, body: JSON.stringify(body), signal });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text === "" ? null : JSON.parse(text);
}

/** Publishes until all is confirmed: everybody is prepared for what comes twice. */
async function publish(...messages: Message[]): Promise<void> {
  let left = messages.map((message) => ({ ...message, body: { v: 1, ...message.body } }));
  while (left.length > 0) {
    try {
      const { results } = await call("POST", "publish", { messages: left });
      left = left.filter((_, at) => results[at].status === "unconfirmed");
    } catch (error) {
      console.error(`published again: ${error}`);
      await pause(1000);
    }
  }
}

async function announce(): Promise<void> {
  const hosted = Object.keys(handlers).map((handler) => {
    const [name, ...version] = handler.split(".");
    return { name, version: version.join("."), slots: concurrency, in_flight: jobs.size };
  });
  const me = { worker: id, host: hostname(), pid: process.pid, sdk: "typescript-example/1", started_at, draining };
  await publish({ to: "presence", type: "WorkerAnnounced", body: { ...me, handlers: hosted } });
}

async function run(job: Job, redelivered: boolean): Promise<void> {
  const groups = [job.told({ outcomes: [await job.outcome(handlers, slots, redelivered)] })];
  await publish({ to: `coordinator.${job.group.coordinator}`, type: "JobsFinished", body: { worker: id, groups } });
  jobs.delete(job);
  job.safe();
}

/** Does what a message asks for, and acknowledges it once each of its jobs is reported or leased. */
async function hear({ n, subscription, type, body, body_base64, redelivered }: any, session: string): Promise<void> {
  let [begun, answers]: [Job[], Message[]] = [[], []];
  try {
    if (body.v !== 1) throw new Error(`cannot read version ${body.v}`);
    if (queues.includes(subscription) && type !== "Jobs" && type !== "Probe") throw new Error(`cannot read ${type}`);
    if (type === "Jobs") begun = body.groups.flatMap((group: any) => [...items(group)].map((it) => new Job(group, it)));
    const back = (it: any) => ({ to: `coordinator.${it.coordinator}`, type: "ProbeReturned", body: { items: [it] } });
    if (type === "Probe") answers = body.items.map(back);
  } catch (error) {
    const text = body_base64 === undefined ? JSON.stringify(body) : Buffer.from(body_base64, "base64").toString();
    const [at, size] = [new Date().toISOString(), Buffer.byteLength(text)];
    const letter = { id: randomUUID(), reason: String(error), at, queue: subscription, kind: type, body: text, size };
    answers = [{ to: "dead", type: "DeadLetter", body: letter }];
  }
  for (const job of begun) {
    jobs.add(job);
    void run(job, redelivered);
  }
  if (type === "WorkersWanted") await announce();
  for (const job of jobs) {
    const reaches = (item: any) => item.run === job.group.run && item.entry >= job.group.entry;
    if (type === "CancelJobs" && body.items.some(reaches)) job.stop("canceled");
    if (type === "LeasesAnswered") job.answered(body);
  }
  await publish(...answers);
  await Promise.all(begun.map((job) => job.isSafe));
  await call("POST", `${session}/settle`, { ack: [n] }).catch(() => {}); // then it comes again, and is handed back
}

/** Reads within one session after the other. What was not acknowledged in one that ended comes again. */
async function read(opened: () => void): Promise<never> {
  for (;;) {
    try {
      const answer = await call("POST", "sessions", { name: "typescript" });
      [session, reply] = [`sessions/${answer.session}`, `${answer.prefix}worker.${id}`];
      for (const from of ["presence", "control", `worker.${id}`, ...(draining ? [] : queues)]) {
        await call("PUT", `${session}/subscriptions/${from}`, { from, prefetch: concurrency });
      }
      opened();
      for (let after = 0; ; ) {
        for (const delivery of (await call("POST", `${session}/next`, { after })).deliveries) {
          after = delivery.n;
          void hear(delivery, session);
        }
      }
    } catch (error) {
      if (!draining) console.error(`another session is opened: ${error}`);
      await pause(1000);
    }
  }
}

async function lease(): Promise<void> {
  for (const job of [...jobs].filter((job) => job.wantsLease())) {
    const leases = [{ index: job.item.index, attempt: job.item.attempt, progress: job.progress }];
    const groups = [job.told({ worker: id, reply: { queue: reply }, leases })];
    await publish({ to: `coordinator.${job.group.coordinator}`, type: "Leases", body: { groups } });
  }
}

/** Lets running jobs go on for a while, hands back the rest, and says goodbye. */
async function drain(): Promise<void> {
  draining = true;
  for (const queue of queues) await call("POST", `${session}/subscriptions/${queue}/stop`).catch(() => {});
  await announce();
  const settled = () => Promise.all([...jobs].map((job) => job.isSafe));
  await Promise.race([settled(), pause(drainMs)]);
  for (const job of jobs) job.stop("draining");
  await Promise.race([settled(), pause(10_000)]);
  await publish({ to: "presence", type: "WorkerGone", body: { worker: id } });
  await call("DELETE", session).catch(() => {});
  process.exit(0);
}

await new Promise<void>((opened) => void read(opened));
process.once("SIGTERM", drain).once("SIGINT", drain);
await announce();
setInterval(announce, 5000);
setInterval(lease, 1000);
