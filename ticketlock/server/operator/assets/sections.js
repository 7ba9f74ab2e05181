// -- the last answer, shown in the page ----------------------------------------------------------------

function show() {
  showNumbers();
  showConversations();
  for (const chart of CHARTS) draw(chart);
  showErrors();
  showReplicas();
  showLetters();
  showDead();
  rows(at("audit"), live.audit.map((record) => [JSON.stringify([record.what, record.who, record.why, record.conversation, Math.round(Date.now() / 1000 - record.ago)]), record]), auditLine);
  at("no-audit").hidden = live.audit.length > 0;
  put(at("no-audit"), live.problems.lock_store ? "Not known: the lock store does not answer." : "Nothing yet.");
  put(at("role"), live.role === "operator" ? "operator" + (who ? ": " + plain(who) : "") : "read only");
  at("role").disabled = !live.can_break;
  at("role").title = live.can_break ? "Change the token" : "No admin_token is configured: turns cannot be broken, nor dead letters resent, from here.";
  put(at("foot"), `ticketlock ${live.version}. Handled, duplicates, rejected and failed count since the start `
    + "of the replicas that run now; percentiles are those of the worst replica.");
}

const STORES = { lock_store: "The lock store", tracker_store: "The tracker store" };

const silence = (seconds) => (seconds === null ? "does not answer" : `has not answered for ${span(seconds)}`);

// The problem to show; null: none.
function showProblems(more) {
  const said = [...(more || [])];
  for (const [name, text] of Object.entries(live ? live.problems : {})) {
    if (name === "durability") {
      said.push(`Turns and accepted messages are not durable: ${plain(text)}`);
      continue;
    }
    const since = name === "lock_store" && live.down_for !== null ? live.down_for + passed() : null;
    said.push(`${STORES[name] || name} ${silence(since)}: ${plain(text)}`);
  }
  if (live && live.problems.lock_store && live.scope === "fleet") {
    said.push("Only this replica is shown below: what the others hold is not known.");
  }
  const box = at("problems");
  box.hidden = said.length === 0;
  const known = [...box.children].map((p) => p.textContent).join("\n");
  if (known !== said.join("\n")) box.replaceChildren(...said.map((text) => element("p", "", text)));
}

const DOTS = { good: "%2315803d", slow: "%23d97706", bad: "%23c0262d" };

// The title and the icon of the tab show problems too.
function showTitle(silent) {
  const { stuck = 0, slow = 0 } = live ? live.totals : {};
  const away = silent ? "no answer" : live.problems.lock_store ? "lock store away"
    : live.problems.tracker_store ? "tracker store away" : "";
  const title = (stuck ? `(${stuck} stuck) ` : "") + (away ? away + " - " : "") + "ticketlock";
  if (document.title !== title) document.title = title;
  const dot = away || stuck ? DOTS.bad : slow ? DOTS.slow : DOTS.good;
  const icon = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><circle cx='4' cy='4' r='3.4' fill='${dot}'/></svg>`;
  if (at("icon").href !== icon) at("icon").href = icon;
}

function showNumbers() {
  const { totals, counters, outbox } = live;
  put(at("held"), count(totals.held));
  put(at("queued"), count(totals.waiting));
  const { inbox } = live;
  put(at("accepted"), inbox ? count(inbox.messages) : "–");
  put(at("given-up"), !inbox ? "" : inbox.problem ? plain(inbox.problem)
    : inbox.rows.length ? `${count(inbox.rows.length)}${inbox.more ? " or more" : ""} dead` : "", "note bad");
  put(at("late"), `${count(totals.stuck)} / ${count(totals.slow)}`, totals.stuck ? "stuck" : totals.slow ? "slow" : "");
  put(at("handled"), count(counters.handled));
  put(at("duplicates"), counters.duplicates ? counted(counters.duplicates, "duplicate") : "");
  put(at("trouble"), `${count(counters.rejected)} / ${count(counters.errors)}`);
  at("outbox").replaceChildren(outbox && outbox.events !== null ? count(outbox.events) : "–",
    element("small", "", !outbox ? " no broker" : outbox.events ? ` for ${span(outbox.oldest)}` : ""));
  put(at("outbox-trouble"), outbox ? plain(outbox.trouble) : "", "note bad");
  const here = live.processes.filter((process) => process.here).length, gone = live.processes.filter((p) => !p.here && !p.ended).length;
  put(at("scope"), live.scope !== "fleet" ? "this process only" : live.problems.lock_store ? "this replica alone"
    : counted(here, "replica") + (gone ? `, ${count(gone)} gone` : ""));
}

function showConversations() {
  const { totals, conversations, matching, start } = live, shown = conversations.length;
  const those = filtered() ? "matching" : "";
  let text = "";
  if (matching) {
    text = shown === matching ? counted(matching, `${those} conversation`.trim())
      : `${count(start + 1)} to ${count(start + shown)} of ${count(matching)} ${those} conversations`.replace("  ", " ");
    if (filtered()) text += `, of ${count(totals.conversations)} in all`;
  }
  if (totals.unlisted) {
    text += `${text ? "; " : ""}at most ${count(totals.unlisted)} more are held or waited for that the replicas do not list one by one`;
  }
  put(at("shown"), text);
  rows(at("conversations").tBodies[0], conversations.map((c) => [c.id, c]), conversationRow);
  at("conversations").hidden = shown === 0;
  at("quiet").hidden = shown > 0;
  put(at("quiet"), filtered() ? "No conversation matches."
    : live.problems.lock_store ? "Not known: the lock store does not answer. This replica holds no conversation."
      : totals.unlisted ? "The replicas have not listed any yet." : "No conversation is held, and no message waits.");
  at("pages").hidden = matching <= shown;
  at("previous").disabled = start === 0;
  at("next").disabled = start + shown >= matching;
  put(at("place"), `${count(start + 1)} to ${count(start + shown)} of ${count(matching)}`);
  at("break-all").hidden = !(live.can_break && filtered() && conversations.some((c) => c.holder));
  put(at("break-all"), matching === 1 ? "Break all that match…" : `Break all ${count(matching)}…`);
  showFilter();
}

// Shows the filter of the address; a field with the focus is not changed.
function showFilter() {
  const { q, show, process, sort } = at("filter").elements;
  if (document.activeElement !== q) q.value = view.q;
  show.value = view.show;
  const known = live.processes.filter((p) => p.here).map((p) => p.name);
  if (view.process && !known.includes(view.process)) known.push(view.process);
  if (JSON.stringify(process.known) !== JSON.stringify(known)) {
    process.known = known;
    process.replaceChildren(new Option("any", ""), ...known.map((name) => new Option(plain(name), name)));
  }
  process.value = view.process;
  sort.value = view.sort;
  for (const head of document.querySelectorAll("th[data-sort]")) {
    const here = head.dataset.sort === view.sort;
    head.setAttribute("aria-sort", !here ? "none" : order() === "asc" ? "ascending" : "descending");
    put(head.querySelector("span"), !here ? "" : order() === "asc" ? " ▲" : " ▼");
  }
}

function showErrors() {
  const kinds = kindsOf(), some = kinds.length > 0 || live.errors.length > 0;
  at("errors-part").hidden = !some;
  at("no-errors").parentElement.hidden = some;
  if (!some) return;
  drawErrors(kinds);
  rows(at("kinds").tBodies[0], kinds.map((kind) => [kind.name, kind]), kindRow);
  rows(at("errors"), errorKeys(live.errors.slice(0, 6)), errorLine(true));
  at("errors").hidden = live.errors.length === 0;
}

const errorKeys = (errors) =>
  errors.map((e, i) => [JSON.stringify([e.process, e.reason, e.conversation, e.label, i]), e]);

function showReplicas() {
  rows(at("replicas").tBodies[0], live.processes.map((p, i) => [p.name + (p.here ? "" : " gone " + i), p]), replicaRow);
}

function showLetters() {
  const { letters } = live;
  at("letters-part").hidden = letters === null;
  if (letters === null) return;
  const found = letters.rows, n = found.length;
  rows(at("letters").tBodies[0], found.map((l) => [JSON.stringify([l.conversation, l.history, l.sequence]), l]), letterRow);
  at("letters").hidden = n === 0;
  at("no-letters").hidden = n > 0;
  at("letters-bar").hidden = n === 0;
  put(at("letters-shown"), letters.more ? `the first ${count(n)} of more` : counted(n, "event") + " could not be published");
  for (const id of ["resend-all", "drop-all"]) at(id).hidden = !live.can_break;
  put(at("resend-all"), `Resend these ${count(n)}…`);
  put(at("drop-all"), `Drop these ${count(n)}…`);
}

function showDead() {
  const { inbox } = live, found = inbox ? inbox.rows : [], n = found.length;
  at("dead-part").hidden = n === 0;
  rows(at("dead").tBodies[0], found.map((letter) => [deadKey(letter), letter]), deadRow);
  put(at("dead-shown"), inbox && inbox.more ? `the last ${count(n)} of more` : counted(n, "message") + (n === 1 ? " was given up" : " were given up"));
  for (const id of ["resend-dead", "drop-dead"]) at(id).hidden = !live.can_break;
  put(at("resend-dead"), `Resend these ${count(n)}…`);
  put(at("drop-dead"), `Drop these ${count(n)}…`);
}
