// The session of the person: who, which rights, until when.

import { call, get, Problem, setToken, type Schemas } from "./api/client";

type SessionView = { principal: string; scopes: string[]; csrf_token: string; ends_at: string };
export type { Schemas };

class Session {
  view = $state.raw<SessionView | undefined>(undefined);
  isKnown = $state(false);
  problem = $state("");

  /** Whether the person may do what needs this scope. */
  may(scope: string): boolean {
    return this.view?.scopes.includes(scope) ?? false;
  }

  async find(): Promise<void> {
    try {
      this.set(await get<SessionView>("/session"));
    } catch (error) {
      if (error instanceof Problem && error.status !== 401) this.problem = error.detail;
      this.view = undefined;
    }
    this.isKnown = true;
  }

  async begin(user: string, password: string): Promise<void> {
    this.problem = "";
    try {
      this.set(await call<SessionView>("POST", "/session", { user, password }));
    } catch (error) {
      this.problem = error instanceof Problem ? error.detail : String(error);
    }
  }

  async end(): Promise<void> {
    await call("DELETE", "/session").catch(() => undefined);
    this.view = undefined;
  }

  private set(view: SessionView): void {
    setToken(view.csrf_token);
    this.view = view;
  }
}

export const session = new Session();
