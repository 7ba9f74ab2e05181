// -- questions before actions: who and why ------------------------------------------------------------

// Asks for confirmation and input; `go` returns an error or null. `wants` may have `record`: ask for
// a name and a reason; `count`: a number that must be typed; `danger`.
function ask(title, text, go_text, go, wants = {}) {
  const dialog = at("ask"), field = (id) => at(id).querySelector("input");
  put(at("ask-title"), title);
  put(at("ask-text"), text);
  put(at("ask-go"), go_text, wants.danger ? "danger" : "");
  at("ask-error").hidden = true;
  at("ask-token").hidden = !wants.token && token !== null && (!wants.record || live.role === "operator");
  at("ask-who").hidden = at("ask-why").hidden = !wants.record;
  at("ask-count").hidden = wants.count === undefined;
  at("ask-count").querySelector("span").textContent = `Type ${wants.count} to confirm`;
  for (const id of ["ask-token", "ask-why", "ask-count"]) field(id).value = "";
  field("ask-who").value = who;
  const fail = (what, id) => {
    put(at("ask-error"), what);
    at("ask-error").hidden = false;
    field(id).focus();
    field(id).select();
  };
  return new Promise((resolve) => {
    dialog.querySelector("form").onsubmit = async (event) => {
      event.preventDefault();
      const record = { who: field("ask-who").value.trim(), why: field("ask-why").value.trim() };
      if (wants.count !== undefined && field("ask-count").value.replace(/\D/g, "") !== String(wants.count)) {
        return fail(`Type ${wants.count} to confirm.`, "ask-count");
      }
      if (wants.record && !record.who) return fail("Enter your name: it is kept in the audit log.", "ask-who");
      if (wants.record && !record.why) return fail("Enter a reason: it is kept in the audit log.", "ask-why");
      const before = token;
      if (!at("ask-token").hidden) token = field("ask-token").value;
      at("ask-go").disabled = true;
      const what = await go(record).catch((error) => "No answer: " + error.message);
      at("ask-go").disabled = false;
      if (what === null) {
        if (wants.record) who = record.who;
        return dialog.close();
      }
      if (!at("ask-token").hidden) token = before;
      at("ask-token").hidden = false;
      fail(what, "ask-token");
    };
    at("ask-cancel").onclick = () => dialog.close();
    dialog.onclose = resolve;
    dialog.showModal();
  });
}

function breakTurn(id, holder) {
  const turn = `ticket ${holder.number}, fence ${holder.fence}`;
  const text = `${quoted(id)} is held by ${holderOf(holder)}: ${turn}. Its handler is cancelled `
    + "and can write nothing more; the next message is handled. Only this turn is broken.";
  return ask("Break this turn?", text, "Break it", async (record) => {
    const answer = await call("live/break", { conversation: id, fence: holder.fence, ...record });
    if (answer.status !== 200) return wrong(answer);
    const { broken, next } = answer.value;
    const follows = next ? ` Next: ${holderOf(next)}, ticket ${next.number}.` : "";
    if (broken) note(`Broken: ${quoted(id)}, ${turn}, held by ${holderOf(holder)}.${follows}`);
    else note(`Not broken: ${quoted(id)}, ${turn} had ended already.`, true);
    soon();
    return null;
  }, { record: true, danger: true });
}

// All turns that the filter matches: counted first, then exactly those.
async function breakAll() {
  const answer = await call("live/turns?" + question());
  if (answer.status !== 200) return note("The turns cannot be counted: " + wrong(answer), true);
  const { turns, cut } = answer.value, n = turns.length;
  if (n === 0) return note("No turn matches any more.");
  const of = (state) => turns.filter((turn) => turn.state === state).length;
  const text = `${counted(n, "turn")} of as many conversations: ${of("stuck")} stuck, ${of("slow")} slow, ${of("held")} not slow.`
    + (cut ? ` ${count(cut)} more match: do it again for them.` : "")
    + " Their handlers are cancelled and can write nothing more. Only these turns are broken; one that has ended by then is left alone.";
  return ask(`Break ${counted(n, "turn")}?`, text, `Break ${count(n)}`, async (record) => {
    const sent = turns.map(({ conversation, fence }) => ({ conversation, fence }));
    const made = await call("live/break", { turns: sent, ...record });
    if (made.status !== 200) return wrong(made);
    const { broken, ended } = made.value;
    note(`Broken: ${counted(broken, "turn")}.` + (ended ? ` ${count(ended)} had ended already.` : ""));
    soon();
    return null;
  }, { record: true, danger: true, count: n });
}

function settle(action, letters) {
  const n = letters.length, resend = action === "resend", events = counted(n, "event");
  const whose = n === 1 ? ` of ${quoted(letters[0].conversation)}` : "";
  const them = n === 1 ? "it" : "them";
  const text = resend ? `${events}${whose} will be published again. A consumer may get ${them} out of order.`
    : `${events}${whose} will not be published: no consumer will get ${them}. The history of the conversation keeps ${them}.`;
  return ask(`${resend ? "Resend" : "Drop"} ${events}?`, text, resend ? "Resend" : "Drop", async (record) => {
    const named = letters.map(({ conversation, history: life, sequence }) => ({ conversation, history: life, sequence }));
    const answer = await call("live/letters", { action, letters: named, ...record });
    if (answer.status !== 200) return wrong(answer);
    const { done, left, problem } = answer.value;
    note(`${resend ? "Resent" : "Dropped"}: ${counted(done, "event")}.` + (left ? ` ${count(left)} not: ${plain(problem)}` : ""), left > 0);
    soon();
    return null;
  }, { record: true, danger: !resend, ...(n > 1 && !resend ? { count: n } : {}) });
}

// Withdraws messages that wait, or resends or drops dead ones.
function changeMessages(action, messages) {
  const n = messages.length, one = n === 1 ? `${deadName(messages[0])} of ${quoted(messages[0].conversation)}` : counted(n, "dead message");
  const [verb, done, follows] = {
    withdraw: ["Withdraw", "Withdrawn", "will never be handled, unless its turn begins before. Its sender hears that."],
    resend: ["Resend", "Resent", n === 1 && messages[0].kind === "delivery" ? "will be sent again, all of them: some may arrive twice."
      : "will be handled again, behind all that waits in the conversation."],
    drop: ["Drop", "Dropped", "will be removed, and cannot be resent then."],
  }[action];
  return ask(`${verb} ${n === 1 ? deadName(messages[0]) : one}?`, one[0].toUpperCase() + one.slice(1) + " " + follows, verb, async (record) => {
    const named = messages.map(({ conversation, message_id, kind }) => ({ conversation, message_id, kind }));
    const answer = await call("live/messages", { action, messages: named, ...record });
    if (answer.status !== 200) return wrong(answer);
    const { done: made, left, problem } = answer.value;
    note((made ? `${done}: ${n === 1 ? one : counted(made, "message")}. ` : "") + (left ? `${n === 1 ? one : count(left)}: ${plain(problem)}.` : ""), left > 0);
    soon();
    return null;
  }, { record: true, danger: action !== "resend", ...(n > 1 && action === "drop" ? { count: n } : {}) });
}

// Changes the token.
function changeRole() {
  if (live.role === "operator" && token !== null) {
    token = null;
    who = "";
    return soon();
  }
  return ask("Become operator", "The admin token lets you break turns and settle dead letters.", "Continue", async () => {
    const answer = await call("live?limit=1");
    if (answer.status !== 200) return wrong(answer);
    if (answer.value.role !== "operator") return "That is not the admin token.";
    soon();
    return null;
  }, { token: true });
}

// -- one conversation ----------------------------------------------------------------------------------

let detail = null, detailed = 0;

function openConversation(id) {
  writeAddress({ open: id }, true);
  showOpened();
}

function closeConversation() {
  if (view.open) writeAddress({ open: "" }, true);
  showOpened();
}

// Opens or closes the dialog by the address, and fills it.
function showOpened() {
  const dialog = at("opened");
  if (!view.open) {
    detail = null;
    if (dialog.open) dialog.close();
    return;
  }
  if (!detail || detail.id !== view.open) {
    detail = null;
    put(dialog.querySelector("bdi"), plain(view.open));
    for (const section of dialog.querySelectorAll("section")) section.hidden = true;
    at("opened-problem").hidden = true;
    refreshOpened().catch((error) => openedProblem(error.message));
  }
  if (!dialog.open) dialog.showModal();
}

function openedProblem(text) {
  put(at("opened-problem"), text);
  at("opened-problem").hidden = !text;
}

async function refreshOpened() {
  const id = view.open;
  if (!id || !live) return;
  const answer = await call("live/conversation?" + new URLSearchParams({ id }));
  if (view.open !== id) return;
  if (answer.status !== 200) return openedProblem(wrong(answer));
  openedProblem("");
  detail = answer.value;
  detailed = performance.now();
  for (const section of at("opened").querySelectorAll("section")) section.hidden = false;
  const { lock, transcript, letters, errors, given_up: dead } = detail;
  at("opened-waiting").parentElement.hidden = Boolean(lock.problem);
  list("opened-waiting", "Waiting", lock.waiting || [], ticketLine, lock.waiting_count ? "" : "No message waits.", lock.waiting_count);
  list("opened-errors", "Errors", errorKeys(errors), errorLine(false), "", errors.length);
  list("opened-letters", "Dead letters", (letters.rows || []).map((l) => [l.history + " " + l.sequence, l]), deadLine, "", (letters.rows || []).length);
  list("opened-dead", "Dead messages", (dead.rows || []).map((letter) => [deadKey(letter), letter]), deadMessageLine, "", (dead.rows || []).length);
  at("opened-dead").parentElement.hidden = !(dead.rows || []).length;
  at("opened-errors").parentElement.hidden = errors.length === 0;
  at("opened-letters").parentElement.hidden = !(letters.rows || []).length;
  showTranscript(transcript);
  tickOpened();
}

function list(id, title, found, make, none, n) {
  const body = at(id), pairs = found.map((one) => (Array.isArray(one) ? one : [one.number, one]));
  rows(body, pairs, make);
  put(at(id + "-title"), n ? `${title} (${count(n)})` + (pairs.length < n ? `, the first ${pairs.length}` : "") : none || title);
  body.hidden = pairs.length === 0;
}

const ticketLine = line((head) => {
  const label = element("strong"), about = element("span", "soft");
  const withdraw = button("", "Withdraw…", () => changeMessages("withdraw", [withdraw.message]));
  head.append(label, about, withdraw);
  return (ticket) => {
    const { message } = ticket;
    withdraw.hidden = !(message && live.can_break);
    if (message) {
      withdraw.message = { conversation: message.conversation_id, message_id: message.message_id, kind: "message" };
      put(label, "message " + plain(message.message_id));
      put(about, `ticket ${ticket.number}, for ${span(message.waited)}, for any replica with room`
        + (message.mode === "enqueue" ? "" : ", " + message.mode) + (message.attempts ? `, ${counted(message.attempts, "attempt")} failed` : ""));
      withdraw.setAttribute("aria-label", `Withdraw message ${plain(message.message_id)}`);
      return;
    }
    put(label, ticket.label ? "message " + plain(ticket.label) : "a message without an id");
    put(about, `ticket ${ticket.number}, for ${span(ticket.waiting_for)}, at ${plain(ticket.process || "another process")}`
      + (ticket.alive ? "" : ", no heartbeat: will be skipped"));
  };
});

const deadMessageLine = line((head, text) => {
  const what = element("strong"), when = element("span", "soft"), buttons = deadButtons();
  head.append(what, when, buttons);
  return (letter) => {
    put(what, deadName(letter));
    put(when, past(letter.ago));
    put(text, plain(letter.reason));
    buttons.show(letter);
  };
});

const deadLine = line((head, text) => {
  const what = element("strong"), when = element("span", "soft");
  head.append(what, when);
  return (letter) => {
    put(what, `${plain(letter.event)}, number ${letter.sequence}`);
    put(when, past(letter.ago));
    put(text, plain(letter.reason));
  };
});

function showTranscript(transcript) {
  const place = at("opened-transcript"), { events = [], problem, stored } = transcript;
  const titles = { user: "User", bot: "Bot", action: "Action", slot: "Slot", event: "Event" };
  put(at("opened-transcript-title"), problem ? "Transcript: not known, " + plain(problem)
    : !stored ? "Transcript: nothing is stored yet"
      : transcript.cut ? `Transcript, the last of ${counted(stored, "event")} of the session` : "Transcript");
  const key = JSON.stringify(events.map(({ who, text }) => [who, text]));
  if (place.key !== key) {
    const below = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
    place.key = key;
    place.replaceChildren(...events.map((event) => {
      const spoken = event.who === "user" || event.who === "bot", item = element("li", spoken ? event.who : "other");
      item.append(element("small", "", titles[event.who] + (event.ago === null ? "" : ", " + past(event.ago))), prose(event.text));
      return item;
    }));
    if (below) place.scrollTop = place.scrollHeight;
  }
  place.hidden = events.length === 0;
  at("opened-running").hidden = !detail.lock.holder;
}

// Updates the time for which the turn has been held.
function tickOpened() {
  if (!detail) return;
  const { holder, problem } = detail.lock, since = (performance.now() - detailed) / 1000, meter = at("opened-meter");
  at("opened-break").hidden = !(holder && live.can_break);
  for (const part of [meter, at("opened-lifetime"), at("opened-for"), at("opened-ticket")]) part.hidden = !holder;
  if (!holder) return put(at("opened-who"), problem ? "not known: " + plain(problem) : "not held");
  const now = { ...holder, held_for: holder.held_for + since }, state = stateOf(now, 0);
  const late = state === "held" ? "" : state, lifetime = holder.lifetime || live.lifetime;
  put(at("opened-for"), `for ${span(now.held_for)}${late ? ", " + late : ""}`, late);
  put(at("opened-who"), holderOf(holder) + (holder.lease > since ? "" : ", no heartbeat"));
  put(at("opened-ticket"), `ticket ${holder.number}, fence ${holder.fence}`);
  meter.className = "lifetime " + late;
  meter.firstElementChild.style.width = Math.min(100, 100 * now.held_for / lifetime) + "%";
  for (const [name, value] of [["min", 0], ["max", Math.round(lifetime)], ["now", Math.round(Math.min(lifetime, now.held_for))]]) {
    meter.setAttribute("aria-value" + name, value);
  }
  meter.setAttribute("aria-valuetext", `${span(now.held_for)} of ${count(Math.round(lifetime))} s`);
  put(at("opened-lifetime"), holder.lifetime
    ? `${span(now.held_for)} of its lock_lifetime of ${count(Math.round(lifetime))} s; given up ${lifetime > now.held_for ? "in " + span(lifetime - now.held_for) : "any moment"}.`
    : `Its lock_lifetime is not known: no replica has reported this turn. The bar shows ${count(lifetime)} s.`);
}
