// One turn of the conversation, as it is shown. Whatever comes from a model, a tool or the service
// is put in as text, never as HTML.

const SHOWN = 400;

/** Makes an element with text in it. */
export function element(kind, name, text = "") {
  const made = document.createElement(kind);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

/** Makes a button. */
export function button(text, act) {
  const made = element("button", "", text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

const isText = (value) => typeof value === "string";
const whole = (value) => (isText(value) ? value : JSON.stringify(value, null, 2));
const brief = (value) => {
  const text = isText(value) ? value : JSON.stringify(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
};

/** What a person is asked: of a call that another agent answers, what that one waits for. */
const below = (request) => request.metadata?.requests?.flatMap(below) ?? [request];

export class Turn {
  /** `decide(path, body)` sends a decision of the person about this run. */
  constructor(room, prompt, decide) {
    this.decide = decide;
    this.root = element("section", "turn");
    this.root.dataset.state = "asking";
    this.root.append(element("p", "prompt", prompt));
    /** What may still be taken back: it was shown since the last checkpoint. */
    this.loose = [];
    /** The piece that grows at the moment. */
    this.open = undefined;
    /** Calls by their id, and the boxes that ask about them. */
    this.calls = new Map();
    this.boxes = new Map();
    room.append(this.root);
  }

  add(made) {
    this.root.append(made);
    return made;
  }

  /** Shows a line by itself. */
  say(name, text) {
    this.open = undefined;
    return this.add(element("p", name, text));
  }

  /** Adds to the piece that grows, or begins one. */
  grow(name, text, anew = false) {
    if (this.open?.className !== name) {
      this.open = this.add(element("p", name));
      this.loose.push(this.open);
    }
    this.open.textContent = anew ? text : this.open.textContent + text;
  }

  /** Takes back what was shown since the last checkpoint. */
  retract() {
    for (const piece of this.loose) piece.remove();
    this.loose = [];
    this.open = undefined;
  }

  end(state) {
    this.open = undefined;
    this.root.dataset.state = state;
    this.close();
  }

  /** Removes the boxes that ask. */
  close() {
    for (const box of this.boxes.values()) box.remove();
    this.boxes.clear();
  }

  refused(problem) {
    this.say("error", `${problem.code}: ${problem.message}`);
    this.end("refused");
  }

  /** Shows an event of the run. */
  tell(event) {
    this[`on_${event.event}`]?.(event);
  }

  on_attempt_started({ model, offline }) {
    this.root.dataset.state = "running";
    if (offline && !this.root.querySelector(".offline")) {
      this.say("note offline", `${model} only plays a model: its answers are no advice`);
    }
  }

  on_text_delta({ text }) {
    this.grow("text", text);
  }

  on_thinking_delta({ text }) {
    this.grow("thinking", text);
  }

  on_partial_output({ value }) {
    this.grow("output", whole(value), true);
  }

  on_lagged({ missed, text }) {
    this.retract();
    this.say("note", `${missed} events were missed`);
    if (text) this.grow("text", text, true);
  }

  on_tool_called({ tool_call_id, name, args }) {
    const line = this.calls.get(tool_call_id) ?? this.say("tool", "");
    line.textContent = `${name}(${brief(args)}) …`;
    this.calls.set(tool_call_id, line);
    this.open = undefined;
  }

  on_tool_progress({ tool_call_id, data }) {
    const line = this.calls.get(tool_call_id);
    if (line) line.title = brief(data);
  }

  on_tool_returned({ tool_call_id, name, outcome, result }) {
    const line = this.calls.get(tool_call_id) ?? this.say("tool", `${name}(…) …`);
    line.textContent = `${line.textContent.slice(0, -1)}→ ${outcome}: ${brief(result)}`;
    this.calls.delete(tool_call_id);
  }

  on_delegated({ path, inner }) {
    const where = Array.isArray(path) ? path.join(" › ") : path;
    if (inner.event === "tool_called") this.say("tool", `${where}: ${inner.name}(${brief(inner.args)})`);
  }

  on_handed_off({ to }) {
    this.say("note", `handed on to ${to}`);
  }

  on_checkpoint() {
    this.loose = [];
    this.open = undefined;
  }

  on_attempt_failed({ failure }) {
    this.say("note", `${failure.kind}: ${failure.message}`);
  }

  on_decided({ reason }) {
    this.say("note", reason);
  }

  on_retracted() {
    this.retract();
  }

  on_recovered() {
    this.retract();
    this.say("note", "another process goes on with it");
  }

  on_paused({ reason }) {
    this.root.dataset.state = "paused";
    this.close();
    if (reason.approval) for (const request of reason.approval.requests) this.ask(request);
    else if (reason.ambiguous) this.doubt(reason.ambiguous);
    else this.say("note", `waits: ${Object.keys(reason)[0]}`);
  }

  on_resolved({ tool_call_id }) {
    this.boxes.get(tool_call_id)?.remove();
    this.boxes.delete(tool_call_id);
  }

  on_resumed() {
    this.root.dataset.state = "running";
    this.close();
  }

  on_completed({ output }) {
    const [shown, last] = [isText(output) ? "text" : "output", this.root.lastElementChild];
    // What has streamed as the answer is not shown once more.
    const streamed = last.className === shown && (shown === "output" || last.textContent === output);
    if (streamed) last.textContent = whole(output);
    else this.say(shown, whole(output));
    this.end("completed");
  }

  on_failed({ failure }) {
    this.say("error", `${failure.kind}: ${failure.message}`);
    if (failure.help) this.say("note", failure.help);
    this.end("failed");
  }

  on_rejected(event) {
    this.on_failed(event);
  }

  on_cancelled({ reason }) {
    this.say("error", `cancelled: ${reason}`);
    this.end("cancelled");
  }

  /** Asks for a decision about a call. */
  ask(request) {
    const { tool_call_id } = request;
    const box = this.box(tool_call_id);
    const decide = (body) => this.send("/approvals", { tool_call_id, ...body }, box);
    const asked = below(request);
    if (asked.every(({ kind }) => kind === "approval")) {
      for (const { name, args } of asked) {
        box.append(element("p", "", `May ${name} be called?`), element("pre", "args", whole(args)));
      }
      box.append(
        button("Approve", () => decide({ approve: true })),
        button("Deny", () => decide({ approve: false })),
      );
      return;
    }
    const [{ name, args, metadata }] = asked;
    const question = metadata?.question ?? args?.question;
    box.append(element("p", "", question ?? `${name} wants an answer`));
    if (!question) box.append(element("pre", "args", whole(args)));
    const answer = element("input", "");
    answer.setAttribute("aria-label", "Answer");
    box.append(answer, button("Answer", () => decide({ answer: answer.value })));
  }

  /** Asks what became of a call of which nobody knows whether it took effect. */
  doubt({ tool_call_id, failure }) {
    const box = this.box(tool_call_id);
    const decide = (verdict) => this.send("/resolve", { tool_call_id, verdict }, box);
    box.append(element("p", "", `Nobody knows whether this call took effect: ${failure.message}`));
    box.append(
      button("It did: skip it", () => decide("skip")),
      button("It did not: make it again", () => decide("retry")),
      button("End the run", () => decide("fail")),
    );
  }

  box(call) {
    const box = this.add(element("div", "asked"));
    this.boxes.set(call, box);
    this.open = undefined;
    return box;
  }

  /** Sends a decision. Its effect is seen in the run's events. */
  async send(path, body, box) {
    const buttons = [...box.querySelectorAll("button")];
    for (const each of buttons) each.disabled = true;
    box.querySelector(".error")?.remove();
    try {
      const { refused } = await this.decide(path, body);
      if (refused) box.append(element("p", "error", `${refused.code}: ${refused.detail}`));
    } catch (refused) {
      box.append(element("p", "error", `${refused.code}: ${refused.message}`));
      for (const each of buttons) each.disabled = false;
    }
  }
}
