// The events of one run, over every break of the connection.
//
// A break that the browser mends itself (`EventSource` sends `Last-Event-ID`) costs nothing. Where
// the browser gives up, because its ticket is used or the service has said no, a new stream begins
// behind the last event that was read, with a new ticket.

import { Refused, call, ofRun, sleep } from "./api.js";

const NAMES = [
  "accepted", "started", "attempt_started", "steered", "text_delta", "thinking_delta",
  "partial_output", "tool_called", "tool_progress", "tool_returned", "state_changed", "handed_off",
  "delegated", "model", "log", "checkpoint", "attempt_failed", "decided", "retracted", "paused",
  "resolved", "resumed", "recovered", "lagged", "completed", "failed", "cancelled", "rejected",
];
const LAST = ["completed", "failed", "cancelled", "rejected"];
const SOONEST = 500;
const LATEST = 10_000;
/** How often in a row a stream may tell nothing but that the run cannot be read: for a minute. */
const UNREADABLE = 10;

/**
 * Calls `tell(event)` for every event of a run, once each, and returns behind the last one.
 * `link(state)` hears how the connection is: "open" or "reconnecting".
 * Throws a `Refused` if the run cannot be read any more, or not for a minute.
 */
export async function follow(run, tell, link) {
  const place = { last: 0, wait: SOONEST, unreadable: 0, why: undefined };
  for (;;) {
    if (await open(run, place, tell, link)) return;
    if (place.unreadable > UNREADABLE) throw place.why;
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
      // One that opens, and says that it cannot be read, is opened less and less often.
      if (place.unreadable === 0) place.wait = SOONEST;
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
        place.unreadable = 0;
      }
      tell(event);
      if (LAST.includes(event.event)) end(true);
    };
    for (const name of NAMES) source.addEventListener(name, read);
    source.addEventListener("unreadable", (message) => {
      const { code, detail } = JSON.parse(message.data);
      place.unreadable += 1;
      place.why = new Refused(503, code, detail);
      end(false);
    });
  });
}

/** Whether a refusal is one of the moment: the service starts, ends, or is full. */
function mayPass(status) {
  return status === undefined || status === 429 || status >= 500;
}
