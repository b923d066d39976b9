/** What the example worker does: handlers, as async functions from a job's input to its output. */

/** Fails the job for good: trying again would not help. Anything else that is thrown is tried again. */
export class GiveUp extends Error {}

export interface Context {
  data: unknown;
  /** 0 to 100; shown with the run once it takes long. */
  progress: number | undefined;
  /** Aborted when nobody wants the result any more. */
  signal: AbortSignal;
}

export type Handler = (input: any, context: Context) => Promise<unknown>;

async function countWords(text: unknown): Promise<unknown> {
  if (typeof text !== "string") throw new GiveUp(`a text is wanted, not ${typeof text}`);
  const words = text.toLowerCase().split(/[\s.,;:!?"'()]+/u).filter((word) => word !== "");
  const counted = new Map<string, number>();
  for (const word of words) counted.set(word, (counted.get(word) ?? 0) + 1);
  // Ties in the order of the alphabet, so that a job that is run twice gives the same.
  const most = [...counted].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return { words: words.length, most: most.slice(0, 3).map(([word]) => word) };
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Does what `phasework certify` asks for; see docs/certify.md. */
async function certify(order: any, context: Context): Promise<unknown> {
  switch (order?.do) {
    case undefined: return { input: order, data: context.data };
    case "echo": return order.value;
    case "fail": throw new Error(order.message);
    case "give-up": throw new GiveUp(order.message);
    case "large": return "x".repeat(order.bytes);
    case "wait":
      for (context.progress = 0; context.progress < 100; context.progress++) {
        context.signal.throwIfAborted();
        await pause(order.ms / 100);
      }
      return "waited";
    default: throw new GiveUp(`cannot do ${order.do}`);
  }
}

export const handlers: Record<string, Handler> = { "WordCounter.1.0.0": countWords, "Certify.1.0.0": certify };
