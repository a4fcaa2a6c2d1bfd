// Two groups side by side.
import { $, attempt, base, decide, nameOf, inTurn, onChange, onKeys, own, reload, say, session } from "./common.js";
import { written } from "./sweep.js";

const a = Number(document.body.dataset.a), b = Number(document.body.dataset.b);
const cells = [...document.querySelectorAll("#between .cell")];
let at = 0;
function focus(place) {
  if (!cells.length) return;
  at = (place + cells.length) % cells.length;
  cells.forEach((cell, index) => { cell.tabIndex = index === at ? 0 : -1; });
  cells[at].focus();
}
const toggle = (cell) => cell.setAttribute("aria-selected", String(cell.getAttribute("aria-selected") !== "true"));
const chosen = () => cells.filter((cell) => cell.getAttribute("aria-selected") === "true");
// What others decide loads the page anew: what is chosen stays.
const kept = own(`Between ${a} ${b}`), rows = new Set(JSON.parse(session[kept] || "[]"));
delete session[kept];
cells.filter((cell) => rows.has(cell.dataset.row)).forEach(toggle);
function again() { session[kept] = JSON.stringify(chosen().map((cell) => cell.dataset.row)); reload(); }
cells.forEach((cell, place) => cell.addEventListener("click", () => { focus(place); toggle(cell); }));

const merge = inTurn(() => attempt(() => decide("merge", { into: a, from: [b] }), (answer) => { if (answer) location.href = `${base}/g/${a}`; }));
const different = inTurn(() => attempt(() => decide("link", { a, b, same: false, groups: true }), (answer) => { if (answer) say(`${nameOf(a)} and ${nameOf(b)} stay apart. Z undoes it.`); }));
async function take() {
  const picked = chosen().length ? chosen() : [cells[at]];
  for (const [from, to] of [[a, b], [b, a]]) {
    const rows = picked.filter((cell) => Number(cell?.dataset.group) === from).map((cell) => Number(cell.dataset.row));
    if (rows.length) await attempt(() => decide("move", { rows: written(rows), to, how: rows.length === 1 ? "single" : "several" }));
  }
  reload();
}
$("merge").onclick = merge;
$("different").onclick = different;
$("take").onclick = inTurn(take);
onKeys({ m: merge, d: different, t: inTurn(take), ArrowRight: () => focus(at + 1), ArrowLeft: () => focus(at - 1), " ": () => cells[at] && toggle(cells[at]) });
onChange(again);
