// The accept slider: the numbers of `coterie accept`, position by position.
import { $, ask, count, element, onChange, onKeys, reload } from "./common.js";

const marks = JSON.parse(document.body.dataset.marks), slider = $("threshold");
// Never 0% or 100% of what is not just that, as in the report.
const exact = (share) => {
  if (share === null) return "–";
  if (share > 0 && share < 0.0005) return "<0.1%";
  return share >= 0.9995 && share < 1 ? ">99.9%" : `${(100 * share).toFixed(1)}%`;
};
let asked = 0;
async function show() {
  if (!slider) return;
  const turn = ++asked, answer = await ask(`/accept/at?threshold=${marks[Number(slider.value)]}`);
  if (turn !== asked) return;
  $("value").textContent = answer.shown;
  $("kept").textContent = `${count(answer.accepted)} of ${count(answer.n)} accepted; ${exact(answer.expected_error)} of them are expected to be wrong.`;
  slider.setAttribute("aria-valuetext", $("kept").textContent);
  $("by-group").tBodies[0].replaceChildren(...answer.groups.map((row) => element("tr", {}, element("th", { scope: "row", textContent: row.name }), ...[count(row.size), count(row.accepted), exact(row.expected_error)].map((text) => element("td", { textContent: text })))));
}
if (slider) {
  slider.oninput = show;
  onKeys({ ArrowLeft: () => { slider.focus(); slider.stepDown(); show(); }, ArrowRight: () => { slider.focus(); slider.stepUp(); show(); } });
}
onChange(reload);
show();
