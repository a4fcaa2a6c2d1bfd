// One group: the grid, and the sweep.
import { $, ask, attempt, back, base, chooseGroup, count, counted, decide, digits, element, get, groupOf, kind, nameOf, onChange, onKeys, percent, question, say, state, used } from "./common.js";
import { ahead, picture } from "./pictures.js";
import { Grid } from "./grid.js";
import { PAGE, Search, outcome, written } from "./sweep.js";

const group = Number(document.body.dataset.group);
let order = document.body.dataset.order;
const grid = new Grid($("grid"), () => `/items?group=${group}&order=${order}`, {
  onSelect: (of) => { $("chosen").textContent = of.selected.size ? `${count(of.selected.size)} chosen` : "none chosen"; },
});
const ordered = async (path) => [...new Int32Array(await (await get(`/order?group=${group}&${path}`)).arrayBuffer())];
async function refresh() {
  await grid.load();
  if (grid.selected.size) grid.keep(new Set(await ordered("order=surest")));
  $("size").textContent = counted(grid.total, kind);
  $("toolbar").hidden = !grid.total;
  const named = groupOf(group);
  if (named?.name) $("title").textContent = named.name;
  ask(`/items?group=${group}&limit=0&undecided=1`).then((answer) => { $("open").textContent = count(answer.total); }).catch(() => {});
  if (!grid.total) $("grid").replaceChildren(element("p", { className: "empty", textContent: "Nothing is here any more." }));
}
const after = async () => { grid.clear(); await refresh(); };
const seen = (rows) => rows.filter((row) => grid.shown.has(row));
const how = (rows) => (seen(rows).length < rows.length ? "range" : rows.length === 1 ? "single" : "several");

async function move(to) {
  const rows = grid.picked();
  if (!rows.length || to === null || sweep) return;
  if (to === group) return approve();
  used(to);
  await attempt(() => decide("move", { rows: written(rows), to, how: how(rows) }), after);
}
async function approve() {
  const rows = grid.picked();
  if (!rows.length || group < 0 || sweep) return;
  await attempt(() => decide("approve", { group, rows: written(rows), seen: written(seen(rows)) }), after);
}
async function reject() {
  const rows = grid.picked();
  if (!rows.length || group < 0) return;
  await attempt(() => decide("reject", { rows: written(rows), how: how(rows) }), after);
}
async function fresh() {
  const rows = grid.picked();
  if (!rows.length || group < 0 || sweep) return;
  const known = state.seq;  // what others decide while the question stands is a conflict
  const name = await question(`A new group of ${count(rows.length)}`, { field: "Name (may stay empty)", yes: "Make it" });
  if (name === null) return;
  const made = await attempt(() => decide("split", { group, parts: [{ rows: written(rows) }], how: { by: "hand" } }, known), after);
  if (made && name.trim()) await attempt(() => decide("rename", { group: made.made[0], name: name.trim() }), after);
  if (made) used(made.made[0]);
}
async function rename() {
  if (group < 0) return;
  const name = await question(`What is in group ${group}?`, { field: "Name", value: groupOf(group)?.name || "", yes: "Name it" });
  if (name !== null) await attempt(() => decide("rename", { group, name: name.trim() }), refresh);
}
const inTurn = (act) => (...given) => grid.turn(() => act(...given));
const picks = { approve: inTurn(approve), reject: inTurn(reject), new: inTurn(fresh), all: inTurn(() => grid.inView()), move: inTurn(async () => { const to = await chooseGroup([group]); if (sweep && to !== null) stray(to); else await move(to); }) };
for (const button of document.querySelectorAll("[data-pick]")) button.onclick = () => picks[button.dataset.pick]();
for (const button of document.querySelectorAll("[data-act]")) button.onclick = () => (button.dataset.act === "rename" ? rename() : (location.href = `${base}/split/${group}`));

// The sweep takes the place of the grid. Its answers are sent at its end: the page asks before it is left without them.
let sweep = null;
window.addEventListener("beforeunload", (event) => { if (sweep?.search.seen.size || sweep?.strays.size) event.preventDefault(); });
async function begin() {
  const rows = await ordered("order=surest&undecided=1");
  if (!rows.length) { say("Everything here is decided."); return; }
  sweep = { rows, search: new Search(Math.ceil(rows.length / PAGE)), strays: new Map(), current: 0 };
  $("sweeping").hidden = false;
  $("grid").hidden = true;
  await page();
}
const pageRows = () => sweep.rows.slice(sweep.search.page * PAGE, (sweep.search.page + 1) * PAGE);
async function page() {
  const { search } = sweep, rows = pageRows(), answer = await ask(`/some?rows=${rows.join(",")}`);
  sweep.items = answer.items;
  sweep.current = 0;
  const text = `Page ${search.page + 1} of ${search.pages}, from ${percent(answer.items[0].confidence)} on. Do all of these belong to ${nameOf(group)}? A digit sends the one in focus to its group.`;
  const cells = answer.items.map((item, place) => element("div", { className: "cell", tabIndex: place ? -1 : 0, role: "gridcell", "aria-label": item.id, dataset: { row: item.row }, onclick: () => { look(place); stray(); } }, picture(item.row, item.id)));
  $("sweeping").replaceChildren(element("section", { className: "sweep", "aria-label": "Sweep" },
    element("div", { className: "heading" }, element("p", { id: "sweep-text", textContent: text }),
      element("div", { className: "buttons" },
        element("button", { type: "button", className: "primary", id: "sweep-yes", onclick: inTurn(yes) }, "All belong ", element("kbd", { textContent: "F" })),
        element("button", { type: "button", id: "sweep-no", onclick: inTurn(no) }, "Not all ", element("kbd", { textContent: "J" })),
        element("button", { type: "button", onclick: () => stray() }, "Nowhere ", element("kbd", { textContent: "X" })),
        element("button", { type: "button", onclick: inTurn(stop) }, "Stop ", element("kbd", { textContent: "Esc" })))),
    element("div", { className: "page", role: "grid", "aria-label": "The page" }, element("div", { role: "row", className: "contents" }, ...cells))));
  look(0);
  ahead(sweep.rows.slice((search.page + 1) * PAGE, (search.page + 1) * PAGE + 12));
}
// How many pictures stand in a line of the sweep's page.
const across = () => { const cells = [...$("sweeping").querySelectorAll(".cell")]; return cells.filter((cell) => cell.offsetTop === cells[0].offsetTop).length; };
function look(place) {
  const cells = $("sweeping").querySelectorAll(".cell");
  sweep.current = Math.max(0, Math.min(cells.length - 1, place));
  cells.forEach((cell, index) => { cell.tabIndex = index === sweep.current ? 0 : -1; });
  cells[sweep.current]?.focus({ preventScroll: true });
}
// The picture in focus is no member: it goes to another group, or nowhere. The same again takes it back.
function stray(to = -1) {
  const cell = $("sweeping").querySelectorAll(".cell")[sweep.current], row = Number(cell.dataset.row);
  if (to === group || sweep.strays.get(row) === to) sweep.strays.delete(row); else sweep.strays.set(row, to);
  const marked = sweep.strays.has(row);
  cell.classList.toggle("struck", marked);
  cell.dataset.to = to < 0 ? "✕" : to;
  cell.setAttribute("aria-label", sweep.items[sweep.current].id + (marked ? `, goes to ${nameOf(to)}` : ""));
}
async function yes() {
  sweep.search.yes(pageRows().some((row) => sweep.strays.has(row)));
  await (sweep.search.done ? finish() : page());
}
async function no() {
  sweep.search.no();
  await (sweep.search.done ? finish() : page());
}
async function stop() { await finish(); }
const marked = (rows) => (rows.length === 1 ? "single" : "several");  // one by one, on the sweep's pages
async function finish() {
  // What was decided or moved since the sweep began, by others or by an undo, stays as it is.
  const open = new Set(await ordered("order=surest&undecided=1")), still = (row) => open.has(row);
  const found = outcome(sweep.search, sweep.rows, sweep.strays), approved = found.approved.filter(still), strays = new Map();
  // What was marked was looked at, whatever was said of its page.
  for (const [row, to] of sweep.strays) if (still(row)) strays.set(to, [...(strays.get(to) || []), row]);
  sweep = null;
  $("sweeping").hidden = true;
  $("sweeping").replaceChildren();
  $("grid").hidden = false;
  for (const [to, rows] of strays) await attempt(() => (to < 0 ? decide("reject", { rows: written(rows), how: marked(rows) }) : decide("move", { rows: written(rows), to, how: marked(rows) })));
  if (approved.length) await attempt(() => decide("approve", { group, rows: written(approved), seen: written(found.seen.filter(still)) }), after);
  else { if (!strays.size) say("Nothing was approved."); await refresh(); }
}
if ($("sweep")) $("sweep").onclick = inTurn(() => (sweep ? null : begin()));
$("order").onchange = (event) => { order = event.target.value; history.replaceState(null, "", `?order=${order}`); grid.current = 0; window.scrollTo(0, 0); refresh(); };

// In a sweep a digit marks at once, since the arrows do; it is sent with the rest.
const later = inTurn(move), digit = (to) => { if (sweep) { used(to); stray(to); } else later(to); };
onKeys({
  digit, a: picks.approve, x: () => (sweep ? stray() : picks.reject()), w: picks.new, n: rename, g: picks.move,
  "*": () => { if (!sweep) picks.all(); }, s: () => { if (group >= 0) location.href = `${base}/split/${group}`; },
  z: inTurn(() => back("last")), y: inTurn(() => back("redo")),
  f: inTurn(() => (group < 0 ? null : sweep ? yes() : begin())), j: inTurn(() => (sweep ? no() : null)),
  Escape: inTurn(() => (sweep ? stop() : null)), Enter: inTurn(() => (sweep ? yes() : grid.enlarge())),
  ArrowRight: () => (sweep ? look(sweep.current + 1) : grid.focus(grid.current)), ArrowLeft: () => (sweep ? look(sweep.current - 1) : grid.focus(grid.current)),
  ArrowDown: () => (sweep ? look(sweep.current + across()) : grid.focus(grid.current)), ArrowUp: () => (sweep ? look(sweep.current - across()) : grid.focus(grid.current)),
});
digits(digit);
onChange(() => (sweep ? null : refresh()));
refresh().then(() => grid.focus(0, false));
