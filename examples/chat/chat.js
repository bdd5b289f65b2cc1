// The page: who is asked, what is asked, and the turns of the conversation.

import { Refused, call, ofRun, sleep, token, unique } from "./api.js";
import { fields } from "./deps.js";
import { follow } from "./stream.js";
import { Turn, element } from "./turn.js";

const at = (id) => document.getElementById(id);
const [agentField, promptField, turns] = [at("agent"), at("prompt"), at("turns")];

/** The agents by name. */
let agents = new Map();
let conversation = unique();
let readDeps = () => undefined;
/** The run under way. */
let run;
/** Whether the newest is in sight, and kept there. Whoever scrolls up reads in peace. */
let isBelow = true;

function link(state) {
  at("link").textContent = state === "open" ? "" : state;
}

/** Shows who can be asked. */
async function list() {
  try {
    const { agents: found } = await call("GET", "v1/agents");
    agents = new Map(found.map((agent) => [agent.name, agent]));
    link("open");
  } catch (refused) {
    if (refused.status === 401) return wantToken();
    link(refused.message);
    await sleep(2000);
    return list();
  }
  at("access").hidden = true;
  agentField.replaceChildren(...[...agents.keys()].map((name) => element("option", "", name)));
  const named = new URLSearchParams(location.search).get("agent");
  if (agents.has(named)) agentField.value = named;
  chosen();
}

function wantToken() {
  at("access").hidden = false;
  at("token").focus();
}

/** Shows what the chosen agent is and takes. */
function chosen() {
  const agent = agents.get(agentField.value);
  at("description").textContent = agent?.description ?? "";
  readDeps = fields(at("deps"), agent?.deps_schema);
  begin();
}

function begin() {
  conversation = unique();
  turns.replaceChildren();
}

function busy(is) {
  at("cancel").disabled = !is;
  for (const id of ["send", "anew", "agent"]) at(id).disabled = is;
}

/** Begins the run once, even if the first answer is lost: the second request has the same key. */
async function start(agent, body) {
  const headers = { Prefer: "respond-async", "Idempotency-Key": unique() };
  const path = `v1/agents/${encodeURIComponent(agent)}/runs`;
  for (let left = 3; ; left -= 1) {
    try {
      return (await call("POST", path, body, headers)).run_id;
    } catch (refused) {
      if (refused.status !== undefined || left === 0) throw refused;
      link("reconnecting");
      await sleep(1000);
    }
  }
}

async function ask(prompt) {
  isBelow = true;
  const decide = (path, body) => call("POST", ofRun(run, path), body);
  const turn = new Turn(turns, prompt, decide);
  busy(true);
  try {
    const body = { prompt, deps: readDeps(), conversation_id: conversation };
    run = await start(agentField.value, body);
    turn.root.dataset.run = run;
    await follow(run, (event) => turn.tell(event), link);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    turn.refused(error);
    if (error.status === 401) wantToken();
  } finally {
    run = undefined;
    busy(false);
    promptField.focus();
  }
}

at("ask").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const prompt = promptField.value.trim();
  if (prompt === "" || at("send").disabled) return;
  promptField.value = "";
  ask(prompt);
});
promptField.addEventListener("keydown", (key) => {
  if (key.key !== "Enter" || key.shiftKey || key.isComposing) return;
  key.preventDefault();
  at("ask").requestSubmit();
});
at("cancel").addEventListener("click", async () => {
  try {
    if (run !== undefined) await call("DELETE", ofRun(run));
  } catch (refused) {
    link(refused.message);
  }
});
at("access").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  token.set(at("token").value.trim());
  at("token").value = "";
  list();
});
turns.addEventListener("scroll", () => {
  isBelow = turns.scrollHeight - turns.scrollTop - turns.clientHeight < 40;
});
new MutationObserver(() => {
  if (isBelow) turns.scrollTop = turns.scrollHeight;
}).observe(turns, { childList: true, subtree: true, characterData: true });
agentField.addEventListener("change", chosen);
at("anew").addEventListener("click", begin);
list();
