// All texts of the panel. Names and payloads of others are never put into them as HTML.

const plural = new Intl.PluralRules("en");

/** A count with its noun: "1 client", "2 clients". */
export function counted(count: number, one: string, many = `${one}s`): string {
  const noun = plural.select(count) === "one" ? one : many;
  return `${count.toLocaleString("en")} ${noun}`;
}

export const texts = {
  title: "Martlet",
  pages: {
    overview: "Overview",
    topics: "Topics",
    clients: "Clients",
    refusals: "Refusals",
    devices: "Devices",
    integrations: "Integrations",
  },
  login: {
    title: "Log in",
    user: "User name",
    password: "Password",
    send: "Log in",
    none: "Add an administrator with: martlet user add NAME --api-role administrator",
    out: "Log out",
  },
  live: { live: "live", offline: (since: string) => `offline since ${since}`, paused: "paused" },
  loading: "Loading…",
  retry: "Try again",
  missing: (scope: string) => `You lack the right ${scope}. An administrator can give it to you.`,
  request: (id: string) => `Request ${id}`,
  overview: {
    well: "The node reports no problem.",
    in: "In",
    out: "Out",
    clients: "Clients",
    held: "Held",
    dropped: "Dropped",
    sessions: "Sessions",
    retained: "Retained",
    memory: "Memory",
    up: "Up for",
    ofLimit: (used: string, limit: string) => `${used} of ${limit}`,
  },
  mend: {
    mend: "Mend",
    show: "What will be done",
    request: "Request",
    command: "The same as a command",
    configuration: "In the configuration",
    run: "Do it",
    cancel: "Cancel",
    done: "Done. The node looks again.",
  },
  clients: {
    search: "Search names",
    name: "Client Identifier",
    user: "User",
    state: "State",
    connected: "connected",
    away: "away",
    queued: "Queued",
    dropped: "Dropped",
    subscriptions: "Subscriptions",
    since: "Since",
    empty: "No client has a session. The first one that connects is shown here.",
    disconnect: "End the connection",
  },
  topics: {
    search: "Search topics",
    topic: "Topic",
    value: "Last value",
    rate: "Rate",
    messages: "Messages",
    size: "Size",
    last: "Last",
    retained: "retained",
    cut: "cut",
    empty: "No message of such a topic has come since the node started.",
  },
  refusals: {
    empty: "Nothing was refused or lost since the node started.",
    times: "Times",
    what: "What",
    who: "Who",
    why: "Why",
    last: "Last",
  },
  devices: { empty: "No device is registered: martlet device add NAME", id: "Device", type: "Type", seen: "Last seen", status: "Status" },
  integrations: {
    empty: "No integration is configured: see [[sinks.webhook]] and the others in docs/integrations.md.",
    name: "Integration",
    state: "State",
    behind: "Behind",
    delivered: "Delivered",
    error: "Last error",
    dead: "Dead letters",
  },
  keys: { title: "Keys", help: "?", list: [["?", "this list"], ["g o", "Overview"], ["g t", "Topics"], ["g c", "Clients"], ["g r", "Refusals"], ["g d", "Devices"], ["g i", "Integrations"], ["Space", "pause"]] as const },
} as const;
