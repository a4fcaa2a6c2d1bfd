// The audit: one picture, one key, no score before the end.
import { $, ask, attempt, chip, count, decide, digits, element, inTurn, onChange, onKeys, question, reload } from "./common.js";
import { ahead, enlarge, large, picture } from "./pictures.js";

const audit = Number(document.body.dataset.open) || null;
let item = null, answer = null;

async function next() {
  if (!audit) return;
  answer = await ask("/audit/next");
  // The page says of an audit that it is void.
  if (answer.audit !== audit || $("void").hidden !== (answer.voided === null)) { reload(); return; }
  item = answer.item;
  $("place").textContent = item ? `${count(answer.place + 1)} of ${count(answer.size)}` : `all ${count(answer.size)} are judged`;
  draw();
  ahead(answer.ahead || []);
}
function draw() {
  const root = $("task");
  root.dataset.place = answer.place;
  const stop = element("button", { type: "button", id: "end", onclick: end }, item ? "Stop here" : "Show the result");
  if (!item) { root.replaceChildren(element("p", { className: "empty", textContent: "That was the last one. Z still takes the last answer back; after the result nothing can be changed." }), element("div", { className: "acts" }, stop)); stop.className = "primary"; stop.focus(); return; }
  root.replaceChildren(
    element("figure", { className: "big" }, large(item.row, item.id), element("figcaption", {}, element("code", { textContent: item.id }))),
    element("div", {}, element("h2", {}, chip(item.shown), ` Is this ${item.name}?`), element("div", { className: "strip" }, element("h3", { textContent: "Its surest" }), element("ul", {}, ...answer.examples.map((row) => element("li", {}, picture(row, `row ${row}`)))))),
    element("div", { className: "acts" },
      element("button", { type: "button", className: "primary", onclick: () => judge("right") }, "Right ", element("kbd", { textContent: "F" })),
      element("button", { type: "button", onclick: () => judge("wrong") }, "Wrong ", element("kbd", { textContent: "J" })),
      element("button", { type: "button", onclick: () => judge("unsure") }, "Cannot tell ", element("kbd", { textContent: "U" })), stop));
  root.focus({ preventScroll: true });
}
async function judge(said, belongs = null) {
  if (item) await attempt(() => decide("judge", { audit, row: item.row, shown: item.shown, answer: said, belongs }).then((done) => ({ ...done, text: "" })), next);
}
async function end() {
  if (item && !await question("Stop here?", { text: "What was judged so far counts, from the first on; the rest of the sample is left out. Nothing of it can be changed afterwards.", yes: "Stop" })) return;
  await attempt(() => decide("end", { audit }), () => reload());
}
if (audit) {
  const said = inTurn(judge), digit = inTurn((group) => (group === item?.shown ? judge("right") : judge("wrong", group)));
  onKeys({ f: () => said("right"), j: () => said("wrong"), u: () => said("unsure"), digit, Enter: () => { if (item) enlarge((index) => [item][index], 0); } });
  digits(digit);
  onChange(next);
  next();
} else {
  $("draw").onsubmit = async (event) => {
    event.preventDefault();
    const seed = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
    await attempt(() => decide("draw", { audit: Number(document.body.dataset.next), size: Number($("size").value), seed, max_error: Number($("error").value) / 100, level: 0.95 }), (done) => { if (done) reload(); });
  };
  onChange(reload);
}
