// A group in parts: K-means proposes, Enter takes.
import { $, attempt, base, count, decide, element, onKeys, order, say } from "./common.js";
import { picture } from "./pictures.js";
import { compute } from "./features.js";

const group = Number(document.body.dataset.group), root = $("parts");
let k = 2, seed = 0, parts = null, known = 0, asked = 0;

async function preview() {
  if (!root) return;
  const turn = ++asked;
  $("k").textContent = k;
  $("take").disabled = true;
  root.setAttribute("aria-busy", "true");
  const content = await order(`/split/${group}/preview`, { k, seed }).catch((error) => ({ error }));
  if (turn !== asked) return;
  root.setAttribute("aria-busy", "false");
  parts = content.parts || null;
  known = content.seq;  // what others decide from here on is not in these parts
  if (!parts) { root.replaceChildren(element("p", { className: "banner warn", textContent: content.error.message })); $("quality").textContent = ""; return; }
  $("quality").textContent = `Silhouette ${content.silhouette.toFixed(2)}: from 0.5 on the parts are well apart, near 0 they are one cloud.`;
  root.replaceChildren(...parts.map((part, place) => element("section", { className: "panel part" },
    element("h2", {}, `Part ${place + 1} `, element("small", { textContent: `${count(part.size)}` })),
    element("ul", { className: "gallery" }, ...part.items.map((item) => element("li", {}, picture(item.row, item.id)))))));
  $("take").disabled = false;
}
function set(number) {
  if (number < 2 || number > 12) { say("A group is split in 2 to 12 parts."); return; }
  k = number;
  preview();
}
async function take() {
  if (!parts || $("take").disabled) return;
  $("take").disabled = true;
  const made = await attempt(() => decide("split", { group, parts: parts.map(({ rows }) => ({ rows })), how: { by: "kmeans", k, seed } }, known));
  if (made) location.href = `${base}/?sort=number`; else preview();
}
$("fewer").onclick = () => set(k - 1);
$("more").onclick = () => set(k + 1);
$("again").onclick = () => { seed++; preview(); };
$("take").onclick = take;
onKeys({ ArrowLeft: () => set(k - 1), ArrowRight: () => set(k + 1), n: () => { seed++; preview(); }, Enter: take, ...Object.fromEntries([2, 3, 4, 5, 6, 7, 8, 9].map((parts) => [String(parts), () => set(parts)])) });
compute($("features"), $("job"));
preview();
