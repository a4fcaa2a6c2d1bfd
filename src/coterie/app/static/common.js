// What every screen shares: sending decisions, hearing of others', keys, dialogs.
const data = document.body.dataset;
export const base = data.base, kind = data.kind;
export const state = { seq: Number(data.seq), groups: JSON.parse(data.groups), features: data.features === "1" };
export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const { dataset, ...rest } = properties, node = document.createElement(name);
  for (const [key, value] of Object.entries(rest)) {
    if (key.includes("-") || key === "role") node.setAttribute(key, value); else node[key] = value;
  }
  Object.assign(node.dataset, dataset || {});
  node.append(...children);
  return node;
}

export const count = (number) => number.toLocaleString("en");
export const counted = (number, many) => `${count(number)} ${number === 1 ? many.slice(0, -1) : many}`; // "1 image", "2 images"
// Never 0% or 100% of what is not just that, as in the report.
export const percent = (share) => {
  if (share > 0 && share <= 0.005) return "<1%";
  return share >= 0.995 && share < 1 ? ">99%" : `${Math.round(100 * share)}%`;
};
const colour = (number) => `c${((number % 12) + 12) % 12}`;
export const groupOf = (number) => state.groups.find((group) => group.number === number);
// A name that is read from right to left is set apart: a number behind it would be drawn on its other side.
const apart = (name) => /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(name) ? `\u2068${name}\u2069` : name;
export const nameOf = (number) => number < 0 ? "nowhere" : apart(groupOf(number)?.name || `group ${number}`);
export const chip = (number) => element("i", { className: `chip ${colour(number)}`, textContent: number < 0 ? "–" : number });

const AWAY = "The server does not answer: start coterie review again.";
const OLD = "This address is old: open in this tab the one that coterie review has printed since.";
export async function heard(request) {
  const answer = await request.catch(() => { throw new Error(AWAY); });
  if (!answer.ok) throw await refusal(answer);
  return answer;
}
async function refusal(answer) {
  const content = await answer.json().catch(() => ({})), text = answer.status === 404 ? OLD : content.error;
  return Object.assign(new Error(text || `The server says ${answer.status}.`), content, { status: answer.status });
}
export const get = (path) => heard(fetch(base + path, { headers: { Accept: "application/json" } }));
export const ask = async (path) => (await get(path)).json();
// What is asked for by POST and is no decision: work, a preview.
export const order = async (path, body) => (await heard(post(path, body))).json();
// The page is the server's: its main part is fetched anew.
export async function redraw() {
  const text = await (await heard(fetch(location.href))).text(), fresh = new DOMParser().parseFromString(text, "text/html");
  document.querySelector("main").replaceWith(document.adoptNode(fresh.querySelector("main")));
}

// A browser that may keep nothing has no storage: then it is kept as long as the page is.
function storage(name) {
  try { return window[name] || {}; } catch { return {}; }
}
export const session = storage("sessionStorage");
const local = storage("localStorage");

// Decisions leave the tab one after the other, each with a number of its own; what is not sent yet outlives a reload.
// A tab that is duplicated brings the storage along, and a page may come back as it was left: only this page's own name
// keeps two decisions from having one number, the second of which the server would take for the first sent again.
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
const tab = (session.coterieTab ||= random()), page = random();
// What a tab keeps is of this review alone, at whatever address: it may have shown another run at the same port before.
export const own = (name) => `coterie${name} ${data.review}`;
const unsent = JSON.parse(session[own("Unsent")] || "[]"), waiting = new Map();
let number = 0, sending = false;

function keep() {
  // More than a browser stores is kept by the page alone, which asks before it is left.
  try { session[own("Unsent")] = JSON.stringify(unsent); } catch { delete session[own("Unsent")]; }
}
export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export function send(path, body) {
  const entry = { path, body: { op: `${page}-${++number}`, after: state.seq, ...body } };
  unsent.push(entry);
  keep();
  const promise = new Promise((done, failed) => waiting.set(entry.body.op, { done, failed }));
  deliver();
  return promise;
}
export const decide = (type, content, after = state.seq) => send("/events", { type, data: packed(content), after });
// Very many scattered rows are sent as bits, a bit for each row from 0 on: as a text they are more than the server takes.
const LONG = 100_000;
function bits(text) {
  if (text.length < LONG) return text;
  const spans = text.split(",").map((part) => part.split("-").map(Number)), bytes = new Uint8Array(Math.ceil((spans.at(-1).at(-1) + 1) / 8));
  for (const span of spans) for (let row = span[0]; row <= span.at(-1); row++) bytes[row >> 3] |= 1 << (row & 7);
  let signs = "";
  for (let at = 0; at < bytes.length; at += 8192) signs += String.fromCharCode(...bytes.subarray(at, at + 8192));
  const found = `bits:${btoa(signs)}`;
  return found.length < text.length ? found : text;
}
function packed(content) {
  const found = { ...content };
  for (const name of ["rows", "seen"]) if (typeof found[name] === "string") found[name] = bits(found[name]);
  if (found.parts) found.parts = found.parts.map(packed);
  return found;
}

// No answer, another address, a disk that is full: what was refused for these is sent again.
export const LATER = [undefined, 404, 503, 507];
async function deliver() {
  if (sending) return;
  sending = true;
  for (let tries = 0; unsent.length;) {
    const entry = unsent[0], { done, failed } = waiting.get(entry.body.op) || { done() {}, failed: lost };
    let content, error = null;
    try { content = await order(entry.path, entry.body); } catch (failure) { error = failure; }
    if (error && LATER.includes(error.status)) {
      // Nothing is lost: it stays here until the server has it.
      saved(`${unsent.length} not sent, trying again`, true);
      if (error.status) say(error.message, true);
      await pause(Math.min(5000, 300 * 2 ** tries++));
      continue;
    }
    tries = 0;
    unsent.shift();
    keep();
    waiting.delete(entry.body.op);
    if (error) failed(error); else { totals(content.totals); await done(content); }
  }
  saved("saved");
  sending = false;
}

// The page that decided it is gone: only this one can say so.
const lost = (error) => say(`A decision from before this page was loaded was not taken. ${error.message}`, true);

const post = (path, body) => fetch(base + path, {
  method: "POST", headers: { "Content-Type": "application/json", "X-Coterie": "1", Accept: "application/json" }, body: JSON.stringify(body),
});

function saved(text, trouble = false) {
  $("saved").textContent = text;
  $("saved").classList.toggle("trouble", trouble);
}
window.addEventListener("beforeunload", (event) => { if (unsent.length) event.preventDefault(); });

function totals(of) {
  if (!of) return;
  $("decided").textContent = count(of.decided);
  document.querySelector(".progress .fill")?.setAttribute("width", (100 * of.decided / of.n).toFixed(1));
}

// What others decide, and what this tab did in another one.
const listeners = [];
export const onChange = (listener) => listeners.push(listener);
async function listen() {
  for (;;) {
    if (document.hidden) { await pause(500); continue; }
    try {
      const answer = await ask(`/changes?after=${state.seq}&tab=${tab}`);
      const foreign = answer.events.filter((event) => !event.op.startsWith(`${page}-`));
      totals(answer.totals);
      $("people").hidden = answer.tabs < 2;
      $("people").textContent = `${answer.tabs} tabs are open`;
      $("broken").hidden = !answer.broken;
      $("broken").textContent = `${counted(answer.broken, "pictures")} cannot be shown`;
      if (!unsent.length) saved("saved");
      if (foreign.length) {
        await renew();
        say(`${foreign.at(-1).by}: ${foreign.at(-1).text}`);
        for (const listener of listeners) await listener(foreign);
      }
      // Until a screen shows what others decided, this tab has not seen it: what it sends meanwhile is a conflict.
      if (answer.events.length) state.seq = answer.events.at(-1).seq;
    } catch (error) {
      if (error.status === 404) say(OLD, true);
      saved(unsent.length ? `${unsent.length} not sent, trying again` : error.status ? "not in touch with the server" : "the server does not answer; start coterie review again", true);
      await pause(1000);
    }
  }
}
async function renew() {
  const answer = await ask("/groups");
  state.groups = answer.groups;
  totals(answer.totals);
  drawDigits();
}

// Messages and questions.
let hiding;
export function say(text, bad = false) {
  const toast = $("toast");
  toast.textContent = text;
  toast.classList.toggle("bad", bad);
  toast.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { toast.hidden = true; }, bad ? 12000 : 6000);
}
// The page anew, with the message that stands on it, and what was filled in.
export function reload() {
  const toast = $("toast");
  if (!toast.hidden) session[own("Said")] = JSON.stringify([toast.textContent, toast.classList.contains("bad")]);
  session[own("Fields")] = JSON.stringify([...document.querySelectorAll("main input[id]")].map(({ id, value }) => [id, value]));
  location.reload();
}
for (const [id, value] of JSON.parse(session[own("Fields")] || "[]")) if ($(id)) $(id).value = value;
delete session[own("Fields")];
if (session[own("Said")]) say(...JSON.parse(session[own("Said")]));
delete session[own("Said")];
let acting = Promise.resolve();
export function attempt(work, then = () => {}) {
  const done = act(work, then);
  acting = Promise.all([acting, done]).then(() => {}, () => {});
  return done;
}
async function act(work, then) {
  try {
    const answer = await work();
    if (answer?.text) say(`${answer.text} Z undoes it.`);
    await renew();
    await then(answer);
    return answer;
  } catch (error) {
    if (error.kind === "conflict") {
      await question("This was changed meanwhile", { text: "Nothing was written. Of what you chose, what is still here stays chosen.", list: error.events.map((event) => `${event.by}: ${event.text}`), yes: "Look again", no: null });
      await renew();
      for (const listener of listeners) listener(error.events);
    } else say(error.message, true);
    return null;
  }
}
// Dialogs open one after the other: what is typed into one is no answer to the next.
let asking = Promise.resolve();
async function alone() {
  for (let open; (open = document.querySelector("dialog[open]"));) await new Promise((done) => open.addEventListener("close", done, { once: true }));
}
function inOrder(open) {
  const answer = asking.then(alone).then(open);
  asking = answer.catch(() => {});
  return answer;
}
export const question = (title, given) => inOrder(() => put(title, given));
export const chooseGroup = (without) => inOrder(() => choose(without));
function put(title, { text = "", field = null, value = "", list = null, yes = "Yes", no = "No" } = {}) {
  const dialog = $("ask"), before = document.activeElement;
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-field").hidden = field === null;
  $("ask-field").firstElementChild.textContent = field || "";
  $("ask-input").value = value;
  $("ask-list").hidden = !list;
  $("ask-list").replaceChildren(...(list || []).map((line) => element("li", { textContent: line })));
  $("ask-yes").textContent = yes;
  $("ask-no").hidden = no === null;
  $("ask-no").textContent = no || "";
  dialog.returnValue = "no";
  dialog.showModal();
  if (field !== null) $("ask-input").select(); else $("ask-yes").focus();
  return new Promise((done) => dialog.addEventListener("close", () => {
    before?.focus?.({ preventScroll: true });
    done(dialog.returnValue === "yes" ? (field === null ? true : $("ask-input").value) : null);
  }, { once: true }));
}
function choose(without = []) {
  const dialog = $("find"), input = $("find-input"), list = $("find-list"), before = document.activeElement;
  let found = [], at = 0, chosen = null;
  const draw = () => {
    const wanted = input.value.trim().toLowerCase();
    found = state.groups.filter((group) => !without.includes(group.number) && (!wanted || String(group.number) === wanted || group.name.toLowerCase().includes(wanted) || `group ${group.number}`.includes(wanted)));
    found.sort((a, b) => (String(b.number) === wanted) - (String(a.number) === wanted));
    at = Math.min(at, Math.max(0, found.length - 1));
    const first = Math.max(0, at - 40);  // 50 of many, among them the chosen one
    list.replaceChildren(...found.slice(first, first + 50).map((group, i) => element("li", { role: "option", id: `found-${first + i}`, "aria-selected": String(first + i === at), onclick() { chosen = group.number; dialog.close(); } }, chip(group.number), group.name || `Group ${group.number}`, element("small", { textContent: count(group.size) }))));
    input.setAttribute("aria-activedescendant", found.length ? `found-${at}` : "");
    $(`found-${at}`)?.scrollIntoView({ block: "nearest" });
  };
  const keys = (event) => {
    if (event.isComposing) return;  // of a Japanese name, say: this Enter ends its input
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { at = (at + (event.key === "ArrowDown" ? 1 : -1) + found.length) % Math.max(1, found.length); draw(); event.preventDefault(); }
    if (event.key === "Enter") { event.preventDefault(); chosen = found[at]?.number ?? null; dialog.close(); }
  };
  input.value = "";
  input.oninput = () => { at = 0; draw(); };
  input.onkeydown = keys;
  draw();
  dialog.showModal();
  input.focus();
  return new Promise((done) => dialog.addEventListener("close", () => { before?.focus?.({ preventScroll: true }); done(chosen); }, { once: true }));
}

// The nine groups last used. A group keeps its digit until nine others were used since.
const slotsKey = `coterie-digits-${data.review}`;
let slots = JSON.parse(local[slotsKey] || "[]");
export const digitOf = (group) => slots.findIndex((slot) => slot.group === group) + 1;
const digitGroup = (digit) => slots[digit - 1]?.group;
export function used(group) {
  const there = slots.find((slot) => slot.group === group), now = Date.now();
  if (there) there.at = now;
  else if (slots.length < 9) slots.push({ group, at: now });
  else Object.assign(slots.reduce((a, b) => (a.at <= b.at ? a : b)), { group, at: now });
  local[slotsKey] = JSON.stringify(slots);
  drawDigits();
}
let onDigit = null;
export function digits(act) { onDigit = act; drawDigits(); }
function drawDigits() {
  const alive = new Set(state.groups.map((group) => group.number));
  slots = slots.filter((slot) => alive.has(slot.group));
  for (const group of state.groups) if (slots.length < 9 && !slots.some((slot) => slot.group === group.number)) slots.push({ group: group.number, at: 0 });
  $("digits")?.replaceChildren(...slots.map((slot, place) => element("li", {}, element("button", { type: "button", className: colour(slot.group), title: `Move to ${nameOf(slot.group)}`, onclick: (event) => onDigit?.(slot.group, event.shiftKey) }, element("kbd", { textContent: place + 1 }), element("span", { textContent: groupOf(slot.group)?.name || `Group ${slot.group}` })))));
}

// Keys. Only a text field, a menu or a dialog stops them; a mouse click does not.
const keys = new Map();
const letters = $("letters");
letters.checked = local.coterieLetters !== "off";
letters.onchange = () => { local.coterieLetters = letters.checked ? "on" : "off"; };
export const onKeys = (table) => { for (const [key, act] of Object.entries(table)) keys.set(key, act); };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const target = event.target, typing = target.closest?.("input:not([type=checkbox], [type=radio], [type=range]), textarea, select, [contenteditable]");
  if (typing || document.querySelector("dialog[open]")) return;
  const digit = /^Digit([1-9])$/.exec(event.code) || (/^Numpad/.test(event.code) && /^([1-9])$/.exec(event.key)), single = event.key.length === 1 && event.key !== " ";
  if (single && !letters.checked) return;
  // "*" is Shift+8 on many keyboards, and no digit where a screen knows it.
  if (digit && keys.has("digit") && !(event.key === "*" && keys.has("*"))) {
    const group = digitGroup(Number(digit[1]));
    if (group !== undefined) { event.preventDefault(); keys.get("digit")(group, event.shiftKey, event); }
    return;
  }
  // Enter and Space press a button or a link that has the focus.
  if ((event.key === "Enter" || event.key === " ") && target.closest?.("button, a, summary, input")) return;
  const act = keys.get(single ? event.key.toLowerCase() : event.key);
  if (act) { if (act(event) !== false) event.preventDefault(); }
});
// Acts of a screen follow each other: a key that comes early waits, and acts on what is then shown.
let turn = Promise.resolve();
export const inTurn = (act) => (...given) => { turn = turn.then(() => act(...given)).catch((error) => say(error.message, true)); return turn; };
const go = (path) => () => { location.href = base + path; };
export async function undo(what = "last", event = 0) {
  const answer = await send("/undo", { what, event }).catch(async (error) => {
    if (error.kind !== "dependents") { say(error.message, true); return null; }
    const list = error.events.map((one) => `${one.seq}: ${one.text}`);
    const also = await question("Other decisions stand on this", { text: "They are undone with it:", list, yes: "Undo all" });
    return also ? send("/undo", { what, event, dependents: true }).catch((failure) => { say(failure.message, true); return null; }) : null;
  });
  if (!answer) return null;
  say(answer.text);
  await renew();
  for (const listener of listeners) await listener([]);
  return answer;
}
// A decision that is on its way is the last one, whatever the server has by now.
export const back = async (what) => { await acting; return undo(what); };
onKeys({
  o: go("/"), q: go("/queue"), p: go("/map"), v: go("/audit"), h: go("/history"), e: go("/export"),
  z: inTurn(() => back("last")), y: inTurn(() => back("redo")),
  r: () => { import("./refit.js").then((module) => module.offer(), () => say(AWAY, true)); },
  "/": () => { chooseGroup().then((group) => { if (group !== null) location.href = `${base}/g/${group}`; }); },
  "?": () => { $("keys").showModal(); },
});
$("help").onclick = () => $("keys").showModal();

// On a narrow screen the screens' names are scrolled.
const here = document.querySelector(".topbar nav [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.clientWidth / 2;
// A page that the browser kept whole, as it was left, knows nothing of what was sent since.
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
deliver();
listen();
