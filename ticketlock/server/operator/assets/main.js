// -- the loop, and events of the user -----------------------------------------------------------------

let timer = 0, asking = false, again = false;

function state(text, bad) {
  put(at("state"), text, bad ? "bad" : "");
}

async function refresh() {
  const { status, value } = await call("live?" + question());
  if (status === 401 || status === 403) {
    state("needs a token", true);
    await ask("Token", "This server needs a token to show its conversations.", "Continue",
      async () => ((await call("live?limit=1")).status === 200 ? null : "That token is not accepted."), { token: true });
    return;
  }
  if (status !== 200) throw new Error(plain(String(value.message || "status " + status)));
  live = value;
  received = performance.now();
  const trouble = Object.keys(live.problems).length > 0;
  state(trouble ? "trouble" : "live", trouble);
  showProblems();
  showTitle(false);
  show();
  showOpened();
  if (view.open) await refreshOpened();
}

async function loop() {
  again = asking; // the pending answer is to an older query
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    await refresh();
  } catch (error) {
    state("no answer" + (live ? ` for ${span(passed())}` : ""), true);
    showProblems([`This replica ${silence(live ? passed() : null)}: ${error.message}.` + (live ? " Below is its last answer." : "")]);
    if (live) showTitle(true);
    else document.title = "no answer - ticketlock";
  }
  asking = false;
  timer = setTimeout(loop, again ? 0 : document.hidden ? HIDDEN_EVERY : EVERY);
}

// Asks again as soon as possible.
function soon() {
  clearTimeout(timer);
  timer = setTimeout(loop, 0);
}

function look(changes, push) {
  writeAddress({ start: "0", ...changes }, push);
  if (live) showFilter();
  soon();
}

const filter = at("filter");
let typing = 0;
filter.addEventListener("submit", (event) => { event.preventDefault(); look({ q: filter.elements.q.value.trim() }); });
filter.addEventListener("input", (event) => {
  const { q, show: shown, process, sort } = filter.elements;
  if (event.target === q) {
    clearTimeout(typing);
    typing = setTimeout(() => look({ q: q.value.trim() }), 250);
  } else {
    const order = event.target === sort ? "" : view.order;
    look({ show: shown.value, process: process.value, sort: sort.value, order }, true);
  }
});
for (const head of document.querySelectorAll("th[data-sort]")) {
  const name = head.textContent, made = button("", name, () => {
    const again = view.sort === head.dataset.sort;
    look({ sort: head.dataset.sort, order: again ? (order() === "asc" ? "desc" : "asc") : "" }, true);
  });
  const arrow = element("span");
  arrow.setAttribute("aria-hidden", "true");
  made.append(arrow);
  head.replaceChildren(made);
}
for (const table of document.querySelectorAll("table")) {
  table.classList.toggle("stacked", table.id !== "kinds");
  table.setAttribute("role", "table");
  for (const part of [table.tHead, table.tBodies[0]]) part.setAttribute("role", "rowgroup");
  table.tHead.rows[0].setAttribute("role", "row");
  for (const head of table.tHead.rows[0].cells) head.setAttribute("role", "columnheader");
}
at("previous").addEventListener("click", () => turnPage(-1));
at("next").addEventListener("click", () => turnPage(1));
function turnPage(by) {
  writeAddress({ start: String(Math.max(0, live.start + by * live.limit)) }, true);
  soon();
}
at("break-all").addEventListener("click", () => breakAll().catch((error) => note("No answer: " + error.message, true)));
at("resend-all").addEventListener("click", () => settle("resend", live.letters.rows));
at("drop-all").addEventListener("click", () => settle("drop", live.letters.rows));
at("resend-dead").addEventListener("click", () => changeMessages("resend", live.inbox.rows));
at("drop-dead").addEventListener("click", () => changeMessages("drop", live.inbox.rows));
at("role").addEventListener("click", changeRole);
at("opened-close").addEventListener("click", closeConversation);
at("opened").addEventListener("close", () => { if (view.open) closeConversation(); });
at("opened-break").addEventListener("click", () => breakTurn(detail.id, detail.lock.holder));

function goTo() {
  readAddress();
  if (live) { showFilter(); showOpened(); }
  soon();
}
addEventListener("popstate", goTo);
addEventListener("hashchange", goTo);

setInterval(() => {
  if (!live || document.hidden) return;
  for (const table of [at("conversations"), at("replicas")]) {
    for (const row of table.tBodies[0].rows) row.tick();
  }
  tickOpened();
}, 500);
document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
readAddress();
loop();
