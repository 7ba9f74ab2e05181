"use strict";
// Data of the server is inserted as text, never as markup. Times are in seconds.
const EVERY = 2000, HIDDEN_EVERY = 10000, KEPT_NOTES = 5;
const at = (id) => document.getElementById(id);

// `live` is the last answer, `received` the time of its arrival.
let token = null, who = "", received = 0, live = null;

// Invisible characters, and those that change the direction of text, are escaped.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const escaped = (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0");
const plain = (text) => text.replace(UNSEEN, escaped);
// The same for a text of several lines.
const prose = (text) => text.replace(UNSEEN, (c) => (c === "\n" ? c : escaped(c)));

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(className, text, work) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", work);
  return made;
}

// Replaces a text only if it changes, so that a selection in it is kept.
function put(node, text, className) {
  if (node.textContent !== text) node.textContent = text;
  if (className !== undefined && node.className !== className) node.className = className;
}

function span(seconds) {
  if (seconds < 1) return Math.round(Math.max(0, seconds) * 1000) + " ms";
  if (seconds < 59.95) return seconds.toFixed(1) + " s";
  const whole = Math.round(seconds);
  if (whole < 3600) return Math.floor(whole / 60) + " m " + whole % 60 + " s";
  if (whole < 172800) return Math.floor(whole / 3600) + " h " + Math.floor(whole % 3600 / 60) + " m";
  return Math.floor(whole / 86400) + " days";
}

// The same, shorter, for long times.
function brief(seconds) {
  if (seconds < 59.5) return Math.round(seconds) + " s";
  if (seconds < 3570) return Math.round(seconds / 60) + " min";
  if (seconds < 172800) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " days";
}

const past = (seconds) => (seconds < 1 ? "now" : brief(seconds) + " ago");
const count = (number) => number.toLocaleString("en");
const counted = (number, one, many) => `${count(number)} ${number === 1 ? one : many || one + "s"}`;
const passed = () => (performance.now() - received) / 1000;
const quoted = (id) => "“" + plain(id) + "”";
const deadName = ({ kind, message_id }) => (kind === "delivery" ? "replies to message " : "message ") + plain(message_id);
const deadKey = ({ conversation, kind, message_id, number }) => JSON.stringify([conversation, kind, message_id, number]);
const holderOf = (holder) =>
  plain(holder.process || "another process") + (holder.label ? ` (message ${plain(holder.label)})` : "");

// `held`, `slow` or `stuck`, as in the server; see `state` in view.py.
function stateOf(holder, wait) {
  const seconds = holder ? holder.held_for : wait, lifetime = (holder && holder.lifetime) || live.lifetime;
  if (seconds >= live.stuck * lifetime) return "stuck";
  if (seconds >= live.slow * lifetime) return "slow";
  return holder ? "held" : "waiting";
}

// -- the view: it is in the address, for bookmarks, links and the back button -------------------------

const DEFAULTS = { q: "", show: "all", process: "", sort: "age", order: "", start: "0", open: "" };
let view = { ...DEFAULTS };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(DEFAULTS)) view[key] = given.get(key) || DEFAULTS[key];
}

function writeAddress(changes, push) {
  Object.assign(view, changes);
  const said = new URLSearchParams();
  for (const [key, value] of Object.entries(view)) if (value !== DEFAULTS[key]) said.set(key, value);
  const address = said.size ? "#" + said : location.pathname;
  history[push ? "pushState" : "replaceState"](null, "", address);
}

const filtered = () => view.q !== "" || view.show !== "all" || view.process !== "";
const order = () => view.order || (view.sort === "id" || view.sort === "process" ? "asc" : "desc");

function question() {
  const { q, show, process, sort, start } = view;
  return new URLSearchParams({ q, show, process, sort, order: order(), start });
}

// -- talking to the server ----------------------------------------------------------------------------

async function call(path, body) {
  const options = { headers: {}, cache: "no-store", credentials: "same-origin" };
  if (token) options.headers.Authorization = "Bearer " + token;
  if (body) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const value = await answer.json().catch(() => ({}));
  return { status: answer.status, value };
}

const wrong = ({ status, value }) =>
  status === 401 ? "That token is not accepted." : plain(String(value.message || "status " + status));

function note(text, bad) {
  const item = element("li", bad ? "bad" : "", new Date().toLocaleTimeString("en-GB") + " " + text);
  at("log").prepend(item);
  while (at("log").children.length > KEPT_NOTES) at("log").lastChild.remove();
}
