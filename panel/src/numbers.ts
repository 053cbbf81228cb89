// Numbers and times as people read them. What is not known is "–", never 0.

export const UNKNOWN = "–";

/** A rate, from messages a second: "1,240/s", "0.4/s", "1 in 3 min". */
export function rate(perSecond: number | undefined): string {
  if (perSecond === undefined || !Number.isFinite(perSecond)) return UNKNOWN;
  if (perSecond === 0) return "0/s";
  if (perSecond >= 10) return `${Math.round(perSecond).toLocaleString("en")}/s`;
  if (perSecond >= 0.1) return `${perSecond.toFixed(1)}/s`;
  return `1 in ${span(1 / perSecond)}`;
}

/** Bytes in powers of 1,000: "1.2 MB". */
export function bytes(count: number | null | undefined): string {
  if (count === null || count === undefined) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [value, at] = [count, 0];
  while (value >= 999.5 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
  return `${at === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

/** A time span, from seconds: "4 s", "3 min", "2 h", "5 d". */
export function span(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** How long ago a time was: "3 min ago". */
export function ago(at: string | null | undefined, now: number): string {
  if (!at) return UNKNOWN;
  const since = (now - Date.parse(at)) / 1000;
  return Number.isNaN(since) ? UNKNOWN : `${span(Math.max(0, since))} ago`;
}

/** The time of day of a moment, in the zone of the browser. */
export function clock(at: number): string {
  return new Date(at).toLocaleTimeString("en-GB");
}

// Characters that change the direction of text or are not shown (Unicode, Bidi_Control and C0, C1).
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A name of others, for output: what is hidden in it is shown, and it is not longer than `most`. */
export function shown(name: string, most = 200, isText = false): string {
  const cut = name.length > most ? `${name.slice(0, most)}…` : name;
  return cut.replace(HIDDEN, (letter) => {
    // Lines and tabs of a text are its form.
    if (isText && (letter === "\n" || letter === "\t")) return letter;
    return `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** A payload for reading: JSON with line breaks, other text with what is hidden in it shown. */
export function pretty(payload: string, encoding: string, most = 100_000): string {
  if (payload.length <= most && encoding !== "base64") {
    try {
      return shown(JSON.stringify(JSON.parse(payload), null, 2), most, true);
    } catch {
      // It is other text.
    }
  }
  return shown(payload, most, true);
}
