/** One attempt of a job: runs it, and knows what is to be told of it. */

import { GiveUp, type Context, type Handler } from "./handlers.js";

const mostBytes = 1 << 20; // of an output

export class Job implements Context {
  readonly data: unknown;
  progress: number | undefined;
  /** Why it was stopped. */
  stopped: string | undefined;
  /** When it was last leased, or taken. */
  heldSince = Date.now();
  isLeased = false;
  /** Says that it is reported or leased: its message may then be acknowledged. */
  safe!: () => void;
  readonly isSafe = new Promise<void>((resolve) => (this.safe = resolve));
  private readonly stopping = new AbortController();
  readonly signal = this.stopping.signal;

  constructor(readonly group: any, readonly item: any) {
    this.data = group.data ?? null;
  }

  stop(why: string): void {
    this.stopped ??= why;
    this.stopping.abort();
  }

  /** What names the jobs of its group, and more. */
  told(more: object): Record<string, unknown> {
    const { run, entry, nonce, handler } = this.group;
    return { run, entry, nonce, handler, ...more };
  }

  /** Runs it once there is a slot; what became of it. */
  async outcome(handlers: Record<string, Handler>, slots: Slots, redelivered: boolean): Promise<object> {
    const handler = handlers[`${this.group.handler}.${this.group.version}`];
    const { index, attempt } = this.item;
    if (redelivered) return { index, attempt, ...failure("returned", "redelivered", "it was delivered before") };
    if (handler === undefined) return { index, attempt, ...failure("returned", "other-version", "it is not here") };
    await slots.take();
    const ended = await this.attempt(handler).finally(() => slots.free());
    return { index, attempt, ...ended };
  }

  private async attempt(handler: Handler): Promise<object> {
    const { timeout_ms, input: source } = this.group;
    const input = "input" in this.item ? this.item.input : source === "data" ? this.data : this.item.index;
    const timer = setTimeout(() => this.stop("timeout"), Math.min(timeout_ms, 2 ** 31 - 1));
    try {
      if (this.group.enumerate) throw new GiveUp("this worker's handlers do not list their jobs");
      const doing = handler(input, this);
      // Made last: nobody would hear of a rejection if something threw before the race.
      const stopped = new Promise<never>((_, reject) => {
        if (this.signal.aborted) reject(new Error("stopped"));
        this.signal.addEventListener("abort", () => reject(new Error("stopped")));
      });
      const output = (await Promise.race([stopped, doing])) ?? null;
      const size = Buffer.byteLength(JSON.stringify(output));
      if (size > mostBytes) throw new GiveUp(`the output has ${size} bytes; at most ${mostBytes} are taken`);
      return { status: "done", output };
    } catch (error) {
      if (this.stopped === "timeout") return failure("failed", "timeout", `not done within ${timeout_ms} ms`);
      if (this.stopped !== undefined) return failure("returned", this.stopped, "it was stopped before it was done");
      const message = error instanceof Error ? error.message : String(error);
      return failure("failed", "error", message, { retry: !(error instanceof GiveUp) });
    } finally {
      clearTimeout(timer);
    }
  }

  wantsLease(): boolean {
    return Date.now() > this.heldSince + (this.isLeased ? 20_000 : 30_000);
  }

  /** Takes the answer to a request for leases: whether this attempt still matters. */
  answered(body: any): void {
    if (!Object.entries(this.told({})).every(([key, value]) => body[key] === value)) return;
    for (const answer of body.answers) {
      if (answer.index !== this.item.index || answer.attempt !== this.item.attempt) continue;
      this.heldSince = Date.now();
      this.isLeased = true;
      answer.leased_ms === undefined ? this.stop("canceled") : this.safe();
    }
  }
}

/** How many jobs run at once. */
export class Slots {
  private readonly waiting: (() => void)[] = [];
  constructor(private left: number) {}

  async take(): Promise<void> {
    if (this.left > 0) this.left--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  free(): void {
    const next = this.waiting.shift();
    next === undefined ? this.left++ : next();
  }
}

export function* items({ range: [first, count] = [0, 0], jobs = [] }: any): Generator<object> {
  for (let index = first; index < first + count; index++) yield { index, attempt: 1 };
  yield* jobs;
}

function failure(status: string, kind: string, message: string, more = {}): object {
  return { status, error: { kind, message, ...more } };
}
