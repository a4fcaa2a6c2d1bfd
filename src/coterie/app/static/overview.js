// Overview: a group has the focus, a key acts on it.
import { $, attempt, base, chooseGroup, count, decide, get, groupOf, nameOf, onChange, onKeys, own, question, redraw, session } from "./common.js";
import { written } from "./sweep.js";

const all = () => [...document.querySelectorAll(".review")];
let at = Math.max(0, all().findIndex((card) => card.dataset.group === session[own("Card")]));
const focused = () => all()[at];
function stand(place) {
  at = place;
  session[own("Card")] = focused().dataset.group;
  if ($("acting")) $("acting").textContent = nameOf(group());
}
function focus(place, scroll = true) {
  const cards = all();
  if (!cards.length) return;
  stand(Math.max(0, Math.min(cards.length - 1, place)));
  cards.forEach((card, index) => { card.tabIndex = index === at ? 0 : -1; });
  cards[at].focus({ preventScroll: !scroll });
}
// After a decision the focus stays on its group.
async function refresh() {
  const number = focused()?.dataset.group, had = document.activeElement?.closest?.(".review");
  await redraw();
  bind();
  const place = all().findIndex((card) => card.dataset.group === number);
  at = place < 0 ? Math.min(at, all().length - 1) : place;
  if (had) focus(at); else if (focused()) stand(at);
}
const group = () => Number(focused()?.dataset.group ?? -1);

async function rename() {
  const number = group(), name = await question(`What is in group ${number}?`, { field: "Name", value: groupOf(number)?.name || "", yes: "Name it" });
  if (name !== null) await attempt(() => decide("rename", { group: number, name: name.trim() }), refresh);
}
async function rows(number, order = "surest") { return new Int32Array(await (await get(`/order?group=${number}&order=${order}`)).arrayBuffer()); }
const acts = {
  rename,
  async approve() {
    const number = group(), size = Number(focused().dataset.size);
    if (!size || (size > 50 && !await question(`Approve ${nameOf(number)} as it is?`, { text: `${count(size)} are taken as right; nobody has looked at them one by one.`, yes: "Approve" }))) return;
    await attempt(async () => decide("approve", { group: number, rows: written(await rows(number)), seen: "" }), refresh);
  },
  async merge() {
    const into = group(), other = await chooseGroup([into]);
    if (other !== null) await attempt(() => decide("merge", { into, from: [other] }), refresh);
  },
  async compare() {
    const a = group(), b = await chooseGroup([a]);
    if (b !== null) location.href = `${base}/compare/${a}/${b}`;
  },
  split() { location.href = `${base}/split/${group()}`; },
  async reject() {
    const number = group(), size = Number(focused().dataset.size);
    if (!size || (size > 50 && !await question(`Reject ${nameOf(number)}?`, { text: `All ${count(size)} will belong to no group.`, yes: "Reject them" }))) return;
    await attempt(async () => decide("reject", { rows: written(await rows(number)), how: "group" }), refresh);
  },
};
const on = (act) => () => { if (focused()) act(); };
onKeys({
  ArrowDown: () => focus(at + 1), ArrowUp: () => focus(at - 1), ArrowRight: () => focus(at + 1), ArrowLeft: () => focus(at - 1),
  Enter: () => { if (focused()) location.href = `${base}/g/${group()}`; },
  n: on(acts.rename), a: on(acts.approve), m: on(acts.merge), c: on(acts.compare), s: on(acts.split), x: on(acts.reject),
});
function bind() {
  all().forEach((card, place) => {
    card.addEventListener("focusin", () => stand(place));
    card.addEventListener("dblclick", () => { location.href = `${base}/g/${card.dataset.group}`; });
    for (const button of card.querySelectorAll("[data-act]")) button.addEventListener("click", () => { at = place; acts[button.dataset.act](); });
  });
  // A table has its buttons once, above it, for the group that had the focus.
  for (const button of document.querySelectorAll("#table-acts [data-act]")) button.onclick = () => { if (focused()) { focus(at); acts[button.dataset.act](); } };
  const sort = $("sort");
  if (sort) sort.onchange = () => sort.form.submit();
}
bind();
onChange(refresh);
if (!document.activeElement || document.activeElement === document.body) focus(at, at > 0);
