// The doubtful queue: one picture, one key.
import { $, ask, attempt, base, chip, chooseGroup, count, decide, digitOf, digits, element, inTurn, nameOf, onChange, onKeys, own, percent, session, used } from "./common.js";
import { ahead, enlarge, large, picture } from "./pictures.js";
import { written } from "./sweep.js";
import { compute } from "./features.js";

const skipped = new Set(JSON.parse(session[own("Skipped")] || "[]"));
let task = null;

async function next() {
  const answer = await ask(`/queue/next?count=3&skip=${written([...skipped])}`);
  $("waiting").textContent = count(answer.waiting);
  task = answer.tasks[0] || null;
  draw();
  for (const later of answer.tasks.slice(1)) ahead([later.item.row, ...later.near.map((item) => item.row)]);
}
const link = (page, text) => element("a", { href: `${base}/${page}`, textContent: text });
const done = () => element("p", { className: "empty" }, "Every item is decided. ", link("audit", "Audit"), " what was only inferred, or ", link("export", "export"), ".");
function draw() {
  const root = $("task");
  if (!task) { root.replaceChildren(done()); root.removeAttribute("data-row"); return; }
  const { item, near, examples } = task;
  root.dataset.row = item.row;
  const choices = item.top.map(([group, p]) => element("div", { className: "choice" },
    element("button", { type: "button", className: group === item.group ? "own" : "", onclick: () => (group === item.group ? approve(false) : move(group, false)) }, digitOf(group) ? element("kbd", { textContent: digitOf(group) }) : "", chip(group), element("span", { textContent: nameOf(group) }), element("b", { textContent: percent(p) })),
    element("div", { className: "strip" }, element("ul", {}, ...examples[group].map((row) => element("li", {}, picture(row, `row ${row}`)))))));
  root.replaceChildren(
    element("figure", { className: "big" }, large(item.row, item.id), element("figcaption", {}, element("code", { textContent: item.id }), ` in ${nameOf(item.group)}, ${percent(item.confidence)}`)),
    element("div", {}, element("div", { className: "choices" }, ...choices),
      near.length ? element("div", { className: "near" }, element("h2", { textContent: `${near.length} much alike, with Shift` }), element("ul", {}, ...near.map((one) => element("li", {}, picture(one.row, one.id))))) : ""),
    element("div", { className: "acts" },
      element("button", { type: "button", className: "primary", onclick: () => approve(false) }, "Belongs here ", element("kbd", { textContent: "A" })),
      element("button", { type: "button", onclick: other }, "Another group ", element("kbd", { textContent: "G" })),
      element("button", { type: "button", onclick: reject }, "Nowhere ", element("kbd", { textContent: "X" })),
      element("button", { type: "button", onclick: unsure }, "Cannot tell ", element("kbd", { textContent: "U" }))));
  root.focus({ preventScroll: true });
}
async function act(work) {
  if (task) await attempt(work, next);
}
const rows = (along) => [task.item.row, ...(along ? task.near.map((item) => item.row) : [])];
async function approve(along) {
  const text = task && written(rows(along));
  await act(() => decide("approve", { group: task.item.group, rows: text, seen: text }));
}
async function move(to, along) {
  if (!task || to === null) return;
  if (to === task.item.group) return approve(along);
  used(to);
  await act(() => decide("move", { rows: written(rows(along)), to, how: along ? "several" : "single" }));
}
const reject = () => act(() => decide("reject", { rows: written(rows(false)), how: "single" }));
const other = async () => { if (task) move(await chooseGroup(), false); };
async function unsure() {
  if (!task) return;
  skipped.add(task.item.row);
  session[own("Skipped")] = JSON.stringify([...skipped]);
  await next();
}
const early = { approve: inTurn(approve), move: inTurn(move) };
onKeys({ digit: early.move, a: (event) => early.approve(event.shiftKey), x: inTurn(reject), u: inTurn(unsure), g: inTurn(other), Enter: () => { if (task) enlarge((index) => [task.item, ...task.near][index], 0); } });
digits(early.move);
onChange(next);
compute($("features"), $("job"));
next();
