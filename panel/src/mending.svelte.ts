// What a person is about to carry out. It stays while the page around it changes: an answer may
// have a secret that the node shows once.

import { call, etag, Problem, type Remedy } from "./api/client";
import { texts } from "./texts";

export type Action = Pick<Remedy, "kind" | "sentence"> & Partial<Remedy>;

/** Whether the panel can carry it out. The request of another kind needs a body that a person has to make. */
export function canRun(action: Action): boolean {
  return action.kind === "request" && Boolean(action.method && action.path?.startsWith("/api/v1/"));
}

class Mending {
  action = $state.raw<Action | undefined>(undefined);
  isBusy = $state(false);
  isDone = $state(false);
  told = $state("");
  answer = $state.raw<unknown>(undefined);
  #after = (): void => undefined;

  open(action: Action, after: () => void): void {
    this.close();
    [this.action, this.#after] = [action, after];
  }

  close(): void {
    [this.action, this.answer, this.told, this.isDone] = [undefined, undefined, "", false];
  }

  async run(): Promise<void> {
    const action = this.action;
    if (!action?.method || !action.path || !canRun(action) || this.isBusy) return;
    const path = action.path.slice("/api/v1".length);
    this.isBusy = true;
    try {
      const headers: Record<string, string> = action.method === "PATCH" ? { "If-Match": await etag(path) } : {};
      const answer = await call(action.method, path, action.body ?? undefined, undefined, headers);
      [this.answer, this.told, this.isDone] = [answer, texts.mend.done, true];
      this.#after();
    } catch (error) {
      this.told = error instanceof Problem ? error.detail : String(error);
    } finally {
      this.isBusy = false;
    }
  }
}

export const mending = new Mending();
