/* What a page gains with scripts: keys, the palette, a running undo clock, and claims that live while they are
   looked at. Everything that changes something stays a form, which works without any of this. */

import { tinykeys } from "./vendor/tinykeys.mjs";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const keymap = JSON.parse(document.body.dataset.keys || "{}");
const decide = $("#decide");
// A key that comes sooner after a page than anybody can judge was meant for the page before: it does nothing.
const SETTLING_MS = 250;
const arrived = performance.now();
let leaving = false;

const say = (text) => { $("#live").textContent = text; };

/* ---- forms: one act at a time ---------------------------------------------------------------------------- */

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method === "dialog" || event.defaultPrevented) return;
  // A second press while the first is under way would be for a case nobody has seen yet.
  if (leaving) { event.preventDefault(); return; }
  if (form === decide && !complete(event.submitter)) { event.preventDefault(); return; }
  leaving = !form.action.endsWith("/logout");
  document.documentElement.dataset.busy = "true";
  // Only if the answer never comes; the form may then be sent again, and counts once.
  setTimeout(() => { leaving = false; delete document.documentElement.dataset.busy; }, 8000);
});

function complete(submitter) {
  const verdict = submitter?.value;
  if (verdict !== "limit" && verdict !== "remove") return true;
  const wants = (selector, text) => {
    const group = $(selector);
    const place = $("[data-chosen]");
    place?.replaceChildren(Object.assign(document.createElement("span"), { className: "fault", textContent: text }));
    say(text);
    group?.classList.add("wanting");
    group?.scrollIntoView({ block: "center" });
    group?.querySelector("input")?.focus({ preventScroll: true });
    return false;
  };
  if (!$('[name="category"]:checked')) return wants(".categories", "Choose the rule it breaks first, then decide.");
  if (verdict === "limit" && !$('[name="restriction"]:checked')) return wants(".pills", "Choose how it is limited first.");
  return true;
}

/* ---- the rule -------------------------------------------------------------------------------------------- */

function choose(category, said) {
  for (const clause of $$("#clauses label")) clause.toggleAttribute("data-other", clause.dataset.category !== category);
  const first = $(`#clauses label[data-category="${CSS.escape(category)}"] input`);
  if (first) first.checked = true;
  $(".categories")?.classList.remove("wanting");
  const place = $("[data-chosen]");
  if (!place) return;
  const name = Object.assign(document.createElement("b"), { className: "capital", textContent: said });
  place.replaceChildren("Rule: ", name);
}

// Without a script none is ticked, so that another rule does not come with a clause of this one.
const ticked = $('.categories input[name="category"]:checked');
if (ticked && !$("#clauses input:checked")) $(`#clauses label[data-category="${CSS.escape(ticked.value)}"] input`)?.click();

for (const input of $$('.categories input[name="category"]'))
  input.addEventListener("change", () => choose(input.value, $(".capital", input.parentElement).textContent));

/* ---- keys ------------------------------------------------------------------------------------------------ */

const typing = (target) =>
  target.closest?.("textarea, select, [contenteditable], input:not([type=radio], [type=checkbox], [type=submit])");

const openMenu = () => $("details.menu[open]");

let before = null;

function toggle(action) {
  const summary = $(`summary[data-action="${action}"]`);
  if (!summary) return;
  const menu = summary.parentElement;
  if (menu.open) { shut(menu); return; }
  before = document.activeElement;
  menu.open = true;
  $("textarea, .choices button", menu).focus();
}

// Back to where one was: left on the summary, the next Space would open the menu again.
function shut(menu) {
  menu.open = false;
  const back = before && before !== document.body && document.contains(before) ? before : $("h1");
  back?.focus({ preventScroll: true });
}

function press(action) {
  const button = $(`button[data-action="${action}"]:not(:disabled)`);
  button?.form?.requestSubmit(button);
}

function along(step) {
  const links = $$("#rail-list a");
  const here = links.findIndex((link) => link.hasAttribute("aria-current"));
  const link = links[here + step] ?? (step > 0 ? $('a[data-action="next"]') : null);
  if (link) { leaving = false; link.click(); }
}

const acts = {
  next: () => along(1),
  previous: () => along(-1),
  allow: () => press("allow"),
  limit: () => press("limit"),
  remove: () => press("remove"),
  undo: () => press("undo"),
  reveal: (event) => { if ($('button[data-action="reveal"]')) { event.preventDefault(); press("reveal"); } },
  escalate: (event) => { event.preventDefault(); toggle("escalate"); },
  skip: () => toggle("skip"),
  note: (event) => { const field = $("#f-note"); if (field) { event.preventDefault(); field.focus(); } },
  model: () => { for (const part of $$("details[data-model]")) part.open = !part.open; },
  help: () => { const sheet = $("#help"); if (sheet.open) sheet.close(); else sheet.showModal(); },
};

function digit(number) {
  const choice = openMenu()?.querySelector(`[data-choice="${number}"]`);
  if (choice) { choice.form.requestSubmit(choice); return; }
  if (openMenu()) return;
  const input = $(`.categories [data-digit="${number}"] input`);
  if (!input) return;
  input.checked = true;
  input.dispatchEvent(new Event("change"));
}

function guarded(act) {
  return (event) => {
    if (event.repeat || event.isComposing || leaving || typing(event.target)) return;
    if (decide && performance.now() - arrived < SETTLING_MS) return;
    if ($("dialog[open]") && act !== acts.help) return;
    // Space on a button or a link is that button's or link's own.
    if (event.key === " " && event.target.closest("button, a, summary, input")) return;
    act(event);
  };
}

const bindings = {};
for (const [action, key] of Object.entries(keymap)) {
  if (!acts[action] || !key) continue;
  const act = guarded(acts[action]);
  if (key === " ") bindings.Space = act;
  else if (/^[a-z]$/i.test(key)) bindings[key] = act;
  // What needs Shift differs from keyboard to keyboard.
  else { bindings[key] = act; bindings[`Shift+${key}`] = act; }
}
if (Object.keys(keymap).length)
  for (let number = 1; number <= 9; number += 1) bindings[String(number)] ??= guarded(() => digit(number));
bindings["Control+k"] = bindings["Meta+k"] = (event) => { event.preventDefault(); openPalette(); };
tinykeys(window, bindings, { ignore: () => false });

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && openMenu()) shut(openMenu());
});
document.addEventListener("click", (event) => {
  const menu = openMenu();
  if (menu && !menu.contains(event.target)) menu.open = false;
});

/* ---- lines that were read in a picture: the line and its place show each other ----------------------------- */

function pointAt(line, on) {
  const part = line.closest(".part");
  for (const one of $$(`[data-line="${line.dataset.line}"]`, part)) one.classList.toggle("here", on);
}
for (const part of $$(".part:has(.places)")) {
  const lines = $$(".line", part);
  for (const [arrives, goes] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
    part.addEventListener(arrives, (event) => { const line = event.target.closest("[data-line]"); if (line) pointAt(line, true); });
    part.addEventListener(goes, (event) => { const line = event.target.closest("[data-line]"); if (line) pointAt(line, false); });
  }
  part.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = lines[lines.indexOf(event.target) + step];
    if (!step || !lines.includes(event.target)) return;
    event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

/* ---- the palette ----------------------------------------------------------------------------------------- */

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;
const palette = $("#goto");
const places = [
  ...$$(".nav a, .top-end > a").map((link) => [link.textContent.trim(), link.getAttribute("href")]),
  ...($('.nav a[href="/console/queue"]') ? [["Next case", "/console/next"], ["In my hands", "/console/queue?mine=yes"]] : []),
  ["My log-in", "/console/account"],
];
let offered = [];
let at = 0;

function openPalette() {
  if (!palette || palette.open) return;
  $("#goto-input").value = "";
  offer();
  palette.showModal();
  $("#goto-input").focus();
}

function offer() {
  const wanted = $("#goto-input").value.trim().toLowerCase();
  const id = wanted.match(UUID)?.[0];
  offered = places.filter(([name]) => name.toLowerCase().includes(wanted));
  if (id) offered = [[`Case ${id}`, `/console/cases/${id}`], [`Item ${id}`, `/console/items/${id}`], [`Author ${id}`, `/console/authors/${id}`]];
  else if (wanted && !offered.length) offered = [[`Search for “${wanted}”`, `/console/items?q=${encodeURIComponent(wanted)}`]];
  at = 0;
  draw();
}

function draw() {
  const list = $("#goto-list");
  list.replaceChildren(...offered.map(([name, address], index) => {
    const entry = document.createElement("li");
    entry.id = `goto-${index}`;
    entry.setAttribute("role", "option");
    entry.setAttribute("aria-selected", String(index === at));
    entry.append(name);
    entry.addEventListener("click", () => { location.href = address; });
    return entry;
  }));
  $("#goto-input").setAttribute("aria-activedescendant", offered.length ? `goto-${at}` : "");
  list.children[at]?.scrollIntoView({ block: "nearest" });
}

if (palette) {
  $("#goto-input").addEventListener("input", offer);
  $("#goto-input").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      at = (at + (event.key === "ArrowDown" ? 1 : -1) + offered.length) % Math.max(1, offered.length);
      draw();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (offered[at]) location.href = offered[at][1];
    }
  });
  for (const button of $$('[data-open="goto"]')) { button.hidden = false; button.addEventListener("click", openPalette); }
}

/* ---- the undo clock -------------------------------------------------------------------------------------- */

const undo = $("#undo");
if (undo) {
  const bar = $("progress", undo);
  const until = performance.now() + Number(bar.value) * 1000;
  const clock = setInterval(() => {
    const left = Math.max(0, (until - performance.now()) / 1000);
    bar.value = left;
    if (left > 0) return;
    clearInterval(clock);
    const held = undo.contains(document.activeElement);
    undo.remove();
    if (held) $("h1")?.focus();
  }, 200);
}

/* ---- the claim ------------------------------------------------------------------------------------------- */

if (decide?.dataset.case) {
  const { case: id, number } = decide.dataset;
  const body = () => new URLSearchParams({ csrf: decide.elements.csrf.value, number });
  const lost = (text) => {
    const note = Object.assign(document.createElement("div"), { className: "flash warn", textContent: text });
    note.setAttribute("role", "alert");
    $("#main").prepend(note);
  };
  const beat = setInterval(async () => {
    if (document.visibilityState !== "visible" || leaving) return;
    try {
      const answer = await fetch(`/console/cases/${id}/heartbeat`, { method: "POST", body: body() });
      if (answer.status === 409) { clearInterval(beat); lost((await answer.json()).lost); }
      if (answer.redirected) { clearInterval(beat); lost("You are logged out; log in again in another tab, then decide."); }
    } catch { /* The next beat tries again; the lease outlasts several. */ }
  }, 60_000);
  addEventListener("pagehide", () => { if (!leaving) navigator.sendBeacon(`/console/cases/${id}/release`, body()); });
}
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

/* ---- arriving -------------------------------------------------------------------------------------------- */

if (document.body.classList.contains("is-case") && !location.hash) {
  $("h1")?.focus({ preventScroll: true });
  // On a narrow screen the rail stands below the case, and looking for it there would leave the case.
  if (matchMedia("(min-width: 981px)").matches) $("#rail-list [aria-current]")?.scrollIntoView({ block: "nearest" });
}
setTimeout(() => { document.documentElement.dataset.ready = "true"; }, decide ? SETTLING_MS : 0);
