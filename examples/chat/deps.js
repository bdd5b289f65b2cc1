// What an agent takes beside the prompt: a field for each property of its schema.

import { element } from "./turn.js";

const PLAIN = ["string", "integer", "number", "boolean"];

/** Shows the fields in `room`, and returns a function that reads them. */
export function fields(room, schema) {
  room.replaceChildren();
  if (schema === undefined) return () => undefined;
  const properties = Object.entries(schema.properties ?? {});
  if (properties.length === 0 || !properties.every(([, { type }]) => PLAIN.includes(type))) {
    return wholeObject(room);
  }
  const required = schema.required ?? [];
  const made = properties.map(([name, property]) => {
    const input = element("input", "");
    input.name = name;
    input.type = { boolean: "checkbox", string: "text" }[property.type] ?? "number";
    if (input.type === "number") input.step = property.type === "integer" ? "1" : "any";
    input.required = required.includes(name) && input.type !== "checkbox";
    if (input.type === "checkbox") input.checked = property.default === true;
    else if (property.default !== undefined) input.value = property.default;
    // A box that nobody has touched says nothing, unless something has to be said.
    input.dataset.said = required.includes(name) ? "yes" : "no";
    input.addEventListener("change", () => (input.dataset.said = "yes"));
    const label = element("label", "", `${name} `);
    label.title = property.description ?? "";
    label.append(input);
    room.append(label);
    return [name, input];
  });
  return () => Object.fromEntries(made.map(read).filter(([, value]) => value !== undefined));
}

function read([name, input]) {
  if (input.type === "checkbox") return [name, input.dataset.said === "yes" ? input.checked : undefined];
  if (input.value === "" && !input.required) return [name, undefined];
  return [name, input.type === "number" ? Number(input.value) : input.value];
}

/** A field for all of it, as JSON. */
function wholeObject(room) {
  const area = element("textarea", "whole");
  area.rows = 3;
  area.placeholder = "deps, as JSON";
  area.setAttribute("aria-label", "deps");
  area.addEventListener("input", () => area.setCustomValidity(wrong(area.value)));
  room.append(area);
  return () => (area.value.trim() === "" ? undefined : JSON.parse(area.value));
}

function wrong(text) {
  try {
    if (text.trim() !== "") JSON.parse(text);
    return "";
  } catch (error) {
    return error.message;
  }
}
