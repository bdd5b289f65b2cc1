// The events of one run, over every break of the connection.
//
// A break that the browser mends itself (`EventSource` sends `Last-Event-ID`) costs nothing. Where
// the browser gives up, because its ticket is used or the service has said no, a new stream begins
// behind the last event that was read, with a new ticket.

import { call, ofRun, sleep } from "./api.js";

const NAMES = [
  "accepted", "started", "attempt_started", "steered", "text_delta", "thinking_delta",
  "partial_output", "tool_called", "tool_progress", "tool_returned", "state_changed", "handed_off",
  "delegated", "model", "log", "checkpoint", "attempt_failed", "decided", "retracted", "paused",
  "resolved", "resumed", "recovered", "lagged", "completed", "failed", "cancelled", "rejected",
];
const LAST = ["completed", "failed", "cancelled", "rejected"];
const SOONEST = 500;
const LATEST = 10_000;

/**
 * Calls `tell(event)` for every event of a run, once each, and returns behind the last one.
 * `link(state)` hears how the connection is: "open" or "reconnecting".
 * Throws a `Refused` if the run cannot be read any more.
 */
export async function follow(run, tell, link) {
  const place = { last: 0, wait: SOONEST };
  for (;;) {
    if (await open(run, place, tell, link)) return;
    link("reconnecting");
    await sleep(place.wait);
    place.wait = Math.min(place.wait * 2, LATEST);
  }
}

/** Reads one stream, and returns whether the run has ended; otherwise the browser has given up. */
async function open(run, place, tell, link) {
  let ticket;
  try {
    ({ ticket } = await call("POST", "v1/tickets"));
    await call("GET", ofRun(run));
  } catch (refused) {
    if (mayPass(refused.status)) return false;
    throw refused;
  }
  const address = ofRun(run, `/events?ticket=${ticket}&after=${place.last}`);
  return new Promise((resolve) => {
    const source = new EventSource(address);
    const end = (ended) => {
      source.close();
      resolve(ended);
    };
    source.onopen = () => {
      place.wait = SOONEST;
      link("open");
    };
    source.onerror = () => {
      link("reconnecting");
      if (source.readyState === EventSource.CLOSED) end(false);
    };
    const read = (message) => {
      const event = JSON.parse(message.data);
      if (event.seq !== undefined) {
        if (event.seq <= place.last) return;
        place.last = event.seq;
      }
      tell(event);
      if (LAST.includes(event.event)) end(true);
    };
    for (const name of NAMES) source.addEventListener(name, read);
  });
}

/** Whether a refusal is one of the moment: the service starts, ends, or is full. */
function mayPass(status) {
  return status === undefined || status === 429 || status >= 500;
}
