// Every decision in a sentence; each can be undone.
import { $, onChange, onKeys, question, redraw, undo } from "./common.js";

const list = () => [...document.querySelectorAll("#history li")];
let at = 0;
function focus(place) {
  const items = list();
  at = Math.max(0, Math.min(items.length - 1, place));
  items.forEach((item, index) => { item.tabIndex = index === at ? 0 : -1; });
  items[at]?.focus();
}
async function refresh() {
  const had = list()[at]?.dataset.seq;
  await redraw();
  bind();
  focus(Math.max(0, list().findIndex((item) => item.dataset.seq === had)));
}
async function back(seq) {
  const what = seq ? `everything after event ${seq}` : "everything";
  if (await question(seq ? "Back to here?" : "Back to the model's groups?", { text: `This undoes ${what}; judgements of audits stay. It can be undone itself.`, yes: "Go back" })) await undo(seq ? "from" : "all", Number(seq));
}
function bind() {
  list().forEach((item, place) => {
    item.addEventListener("focusin", () => { at = place; });
    item.querySelector('[data-act="undo"]')?.addEventListener("click", () => undo("event", Number(item.dataset.seq)));
    item.querySelector('[data-act="back"]')?.addEventListener("click", () => back(item.dataset.seq));
  });
  if ($("start")) $("start").onclick = () => back(0);
}
onKeys({
  ArrowDown: () => focus(at + 1), ArrowUp: () => focus(at - 1),
  z: () => { const item = list()[at]; if (item?.querySelector('[data-act="undo"]')) undo("event", Number(item.dataset.seq)); },
});
bind();
onChange(refresh);
