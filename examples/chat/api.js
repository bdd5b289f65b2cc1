// The service's HTTP API, and what it says when it refuses.

const TOKEN = "axon-token";

/** A request that was refused, or that never arrived: then it has no status. */
export class Refused extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** The token of this tab, if the service wants one. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
};

/** Asks the service, and returns the JSON that it answers. */
export async function call(method, path, body, headers = {}) {
  const asked = { method, headers: { Accept: "application/json", ...headers } };
  if (token.get()) asked.headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) {
    asked.headers["Content-Type"] = "application/json";
    asked.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, asked);
  } catch (error) {
    throw new Refused(undefined, "unreachable", `the service cannot be reached: ${error.message}`);
  }
  const text = await answer.text();
  let said;
  try {
    said = text === "" ? undefined : JSON.parse(text);
  } catch {
    said = undefined;
  }
  if (answer.ok) return said;
  const detail = said?.detail ?? `the service answers ${answer.status}`;
  throw new Refused(answer.status, said?.code ?? "unknown", detail);
}

/** Where something of a run is. */
export const ofRun = (run, what = "") => `v1/runs/${encodeURIComponent(run)}${what}`;

/** A name that nobody else has. `crypto.randomUUID` is there on secure pages only. */
export function unique() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
