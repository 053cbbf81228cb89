// What the node shows, kept up to date. Today it is polled; a WebSocket will take this place, and
// pages do not see the difference.

import { get, Problem } from "./api/client";
import { session } from "./session.svelte";

/** Pause between two looks at the node. A hidden page does not look. */
const EVERY_MS = 2_000;

export class Live<T> {
  value = $state.raw<T | undefined>(undefined);
  /** The value before, and how many seconds lie between both. */
  before = $state.raw<{ value: T; seconds: number } | undefined>(undefined);
  problem = $state.raw<Problem | undefined>(undefined);
  #at = 0;

  constructor(readonly path: () => string) {
    $effect(() => {
      const path = this.path();
      const aborted = new AbortController();
      void this.#follow(path, aborted.signal);
      return () => aborted.abort();
    });
  }

  async #follow(path: string, signal: AbortSignal): Promise<void> {
    this.value = undefined;
    this.before = undefined;
    while (!signal.aborted) {
      if (!document.hidden && !line.isPaused) await this.look(path, signal);
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  async look(path = this.path(), signal?: AbortSignal): Promise<void> {
    try {
      const value = await get<T>(path, signal);
      const now = performance.now();
      if (this.value !== undefined) this.before = { value: this.value, seconds: (now - this.#at) / 1000 };
      [this.value, this.#at, this.problem] = [value, now, undefined];
      line.came();
    } catch (error) {
      if (signal?.aborted || !(error instanceof Problem)) return;
      if (error.status === 401) session.view = undefined;
      if (error.status === 0) line.lost();
      this.problem = error;
    }
  }
}

class Line {
  isPaused = $state(false);
  offlineSince = $state<number | undefined>(undefined);

  came(): void {
    this.offlineSince = undefined;
  }

  lost(): void {
    this.offlineSince ??= Date.now();
  }
}

export const line = new Line();
