// -- tables: a row with the same key is kept, so that focus and clicks survive ------------------------

function rows(body, wanted, make) {
  const known = new Map([...body.children].map((row) => [row.key, row]));
  wanted.forEach(([key, value], i) => {
    let row = known.get(key);
    if (!row) { row = make(); row.key = key; }
    known.delete(key);
    row.update(value);
    if (body.children[i] !== row) body.insertBefore(row, body.children[i] || null);
  });
  for (const row of known.values()) row.remove();
}

// Cells have another layout on phones; the roles keep it a table for screen readers.
function tableRow() {
  const row = element("tr");
  row.setAttribute("role", "row");
  return row;
}

function cell(row, className, name) {
  const made = element("td", className);
  made.setAttribute("role", "cell");
  if (name) made.dataset.name = name;
  row.append(made);
  return made;
}

// The id of a conversation, which opens it.
function opener() {
  const made = button("link", undefined, () => openConversation(made.conversation)), id = element("bdi", "id");
  made.append(id);
  made.show = (conversation) => {
    made.conversation = conversation;
    put(id, plain(conversation));
    if (made.title !== id.textContent) made.title = id.textContent;
  };
  return made;
}

function conversationRow() {
  const row = tableRow(), open = opener();
  cell(row, "wide").append(open);
  const holder = cell(row, "who"), process = element("div"), label = element("div", "soft");
  holder.append(process, label);
  const held = cell(row, "who"), age = element("span"), bar = element("div", "lifetime"), fill = element("div");
  bar.append(fill);
  held.append(age, bar);
  const waiting = cell(row, "number", "waiting"), longest = cell(row, "number", "longest wait");
  const end = button("danger", "Break…", () => breakTurn(row.value.id, row.value.holder));
  cell(row, "number wide action").append(end);
  row.tick = () => {
    const { holder: held, waiting: n, longest_wait: wait } = row.value, since = passed();
    const now = held && { ...held, held_for: held.held_for + since }, state = stateOf(now, n ? wait + since : 0);
    const late = state === "slow" || state === "stuck" ? " " + state : "";
    put(age, held ? span(now.held_for) + (late && "," + late) : late ? "no turn," + late : "", late.trim());
    bar.hidden = !held;
    bar.className = "lifetime" + late;
    if (held) fill.style.width = Math.min(100, 100 * now.held_for / (held.lifetime || live.lifetime)) + "%";
    end.hidden = !(held && late && live.can_break);
    put(longest, n ? span(wait + since) : "–");
    waiting.classList.toggle("none", n === 0);
    longest.classList.toggle("none", n === 0);
  };
  row.update = (value) => {
    row.value = value;
    open.show(value.id);
    put(process, value.holder ? plain(value.holder.process || "another process") : "not held yet");
    put(label, value.holder && value.holder.label ? plain(value.holder.label) : "");
    put(waiting, count(value.waiting));
    end.setAttribute("aria-label", "Break the turn of " + plain(value.id));
    row.tick();
  };
  return row;
}

function storeLine(name) {
  const line = element("div", "who");
  line.show = (found) => {
    if (!found) put(line, "", "who");
    else if (found.problem) put(line, `${name}: ${plain(found.problem)}`, "who stuck");
    else put(line, `${name} ${found.ms.toFixed(1)} ms`, "who soft");
  };
  return line;
}

function replicaRow() {
  const row = tableRow(), who = cell(row, "wide who"), name = element("div"), about = element("div", "soft");
  const text = element("span"), chip = element("span", "chip");
  name.append(text, chip);
  who.append(name, about);
  const stores = cell(row, "wide"), locks = storeLine("lock store"), tracker = storeLine("tracker store");
  stores.append(locks, tracker);
  const names = ["turns held", "waiting", "handled", "duplicates", "rejected / failed", "last seen"];
  const cells = names.map((n) => cell(row, "number", n));
  row.tick = () => {
    const { here, uptime, age, address, version } = row.value, since = passed();
    put(cells[5], past(age + since), "number" + (here && age + since > 5 ? " slow" : ""));
    const up = uptime === null ? "" : here ? "up " + brief(uptime + since) : "was up " + brief(uptime);
    put(about, [address, version && "ticketlock " + version, up].filter(Boolean).map(plain).join(" · "));
  };
  row.update = (value) => {
    row.value = value;
    const { here, ended, draining, counters, stores: found } = value;
    row.className = here ? "" : "gone";
    put(text, plain(value.name));
    put(chip, here ? (draining ? "draining" : "") : ended ? "ended" : "gone", "chip" + (here || ended ? "" : " stuck"));
    chip.hidden = !chip.textContent;
    locks.show(here && (found.durability || found.lock_store));
    tracker.show(here && found.tracker_store);
    const { handled, duplicates, rejected, errors } = counters;
    const numbers = [here ? count(value.held) : "–", here ? count(value.waiting) : "–", count(handled),
      count(duplicates), `${count(rejected)} / ${count(errors)}`];
    numbers.forEach((number, i) => put(cells[i], number));
    row.tick();
  };
  return row;
}

function kindRow() {
  const row = tableRow(), name = cell(row), swatch = element("span"), text = element("span");
  name.append(swatch, text);
  const recent = cell(row, "number"), total = cell(row, "number");
  row.update = (kind) => {
    swatch.className = "swatch " + kind.colour;
    put(text, plain(kind.name));
    put(recent, count(kind.recent));
    put(total, count(kind.total));
  };
  return row;
}

function letterRow() {
  const row = tableRow(), open = opener();
  cell(row, "wide").append(open);
  const event = cell(row, "wide who"), reason = cell(row, "wide who"), since = cell(row, "number", "since");
  const again = button("", "Resend…", () => settle("resend", [row.value]));
  const drop = button("danger", "Drop…", () => settle("drop", [row.value])), buttons = element("div", "buttons");
  buttons.append(again, drop);
  cell(row, "wide").append(buttons);
  row.update = (value) => {
    row.value = value;
    open.show(value.conversation);
    put(event, `${plain(value.event)}, number ${value.sequence}`);
    put(reason, plain(value.reason));
    put(since, past(value.ago));
    buttons.hidden = !live.can_break;
    again.setAttribute("aria-label", `Resend event ${value.sequence} of ${plain(value.conversation)}`);
    drop.setAttribute("aria-label", `Drop event ${value.sequence} of ${plain(value.conversation)}`);
  };
  return row;
}

// The buttons that resend or drop a dead message.
function deadButtons() {
  const buttons = element("div", "buttons");
  const again = button("", "Resend…", () => changeMessages("resend", [buttons.letter]));
  const drop = button("danger", "Drop…", () => changeMessages("drop", [buttons.letter]));
  buttons.append(again, drop);
  buttons.show = (letter) => {
    buttons.letter = letter;
    buttons.hidden = !live.can_break;
    again.setAttribute("aria-label", `Resend ${deadName(letter)} of ${plain(letter.conversation)}`);
    drop.setAttribute("aria-label", `Drop ${deadName(letter)} of ${plain(letter.conversation)}`);
  };
  return buttons;
}

function deadRow() {
  const row = tableRow(), open = opener();
  cell(row, "wide").append(open);
  const message = cell(row, "wide who"), reason = cell(row, "wide who"), since = cell(row, "number", "since");
  const buttons = deadButtons();
  cell(row, "wide").append(buttons);
  row.update = (value) => {
    open.show(value.conversation);
    put(message, deadName(value));
    put(reason, plain(value.reason));
    put(since, past(value.ago));
    buttons.show(value);
  };
  return row;
}

// Items of a list: a head of several parts, and a text below.
function line(make) {
  return () => {
    const row = element("li"), head = element("div", "head"), text = element("div", "who");
    const update = make(head, text);
    row.append(head, text);
    row.update = update;
    return row;
  };
}

const errorLine = (opens) => line((head, text) => {
  const when = element("span", "soft"), kind = element("strong"), open = opens ? opener() : null;
  const place = element("span", "soft");
  head.append(when, kind, ...(open ? [open] : []), place);
  return (error) => {
    put(when, past(error.ago));
    put(kind, `${plain(error.reason)} (${error.status})`);
    if (open) open.show(error.conversation);
    put(place, (error.label ? `message ${plain(error.label)}, ` : "") + plain(error.process));
    put(text, plain(error.text));
  };
});

const auditLine = line((head, text) => {
  const when = element("span", "soft"), action = element("strong"), open = opener(), by = element("span", "soft");
  head.append(when, action, open, by);
  return (record) => {
    put(when, past(record.ago));
    put(action, plain(record.action));
    open.hidden = !record.conversation;
    open.show(record.conversation);
    put(by, `by ${plain(record.who) || "an operator without a name"} from ${plain(record.client)}`);
    put(text, plain(record.what) + (record.why ? `. Why: ${plain(record.why)}` : ". No reason was given."));
  };
});
