// The map: a canvas, a lasso, and a list for who has no mouse.
import { $, ask, attempt, chooseGroup, count, decide, digits, element, get, inTurn, nameOf, onChange, onKeys, used } from "./common.js";
import { enlarge, picture } from "./pictures.js";
import { written } from "./sweep.js";
import { compute } from "./features.js";

const canvas = $("map"), LISTED = 48;
let points = [], view = { x: 0, y: 0, scale: 1 }, chosen = new Set(), path = null, listed = [], at = 0, lasso = false;

// Little-endian records: row, x, y, group, confidence, exact.
async function load() {
  const buffer = await (await get("/points")).arrayBuffer(), numbers = new DataView(buffer);
  points = Array.from({ length: buffer.byteLength / 20 }, (_, i) => ({
    row: numbers.getInt32(20 * i, true), x: numbers.getFloat32(20 * i + 4, true), y: numbers.getFloat32(20 * i + 8, true),
    group: numbers.getInt16(20 * i + 12, true), exact: numbers.getInt16(20 * i + 14, true), confidence: numbers.getFloat32(20 * i + 16, true),
  }));
  draw();
  list();
}
const place = (point) => [(point.x - view.x) * view.scale * canvas.width * 0.94 + canvas.width * 0.03, (point.y - view.y) * view.scale * canvas.height * 0.94 + canvas.height * 0.03];
const within = ([x, y]) => x >= 0 && y >= 0 && x <= canvas.width && y <= canvas.height;
const colours = () => { const style = getComputedStyle(document.documentElement); return Array.from({ length: 12 }, (_, i) => style.getPropertyValue(`--c${i}`).trim()); };
function draw() {
  const ratio = window.devicePixelRatio || 1, wide = Math.round(canvas.clientWidth * ratio), high = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
  const paint = canvas.getContext("2d"), own = colours(), style = getComputedStyle(document.documentElement), size = ratio * (points.length > 20000 ? 1.6 : points.length > 3000 ? 2.4 : 4) * Math.min(2, Math.sqrt(view.scale));
  paint.clearRect(0, 0, wide, high);
  for (const point of points) {
    const [x, y] = place(point);
    if (!within([x, y])) continue;
    paint.globalAlpha = point.confidence > 0.9 ? 0.9 : point.confidence > 0.5 ? 0.65 : 0.4;
    const ink = point.group < 0 ? style.getPropertyValue("--soft") : own[point.group % 12];
    paint.beginPath();
    paint.arc(x, y, size, 0, 7);
    if (point.exact) { paint.fillStyle = ink; paint.fill(); } else { paint.strokeStyle = ink; paint.lineWidth = ratio; paint.stroke(); }
    if (chosen.has(point.row)) { paint.globalAlpha = 1; paint.strokeStyle = style.getPropertyValue("--ink"); paint.lineWidth = 2 * ratio; paint.beginPath(); paint.arc(x, y, size + 2.5 * ratio, 0, 7); paint.stroke(); }
  }
  paint.globalAlpha = 1;
  if (path) { paint.strokeStyle = style.getPropertyValue("--accent"); paint.fillStyle = style.getPropertyValue("--accent"); paint.lineWidth = 2 * ratio; paint.beginPath(); path.forEach(([x, y], i) => (i ? paint.lineTo(x, y) : paint.moveTo(x, y))); paint.closePath(); paint.stroke(); paint.globalAlpha = 0.12; paint.fill(); paint.globalAlpha = 1; }
}
function inside(polygon, [x, y]) {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}
const told = () => { $("chosen").textContent = chosen.size ? `${count(chosen.size)} chosen` : "none chosen"; };
let listing = 0;
async function list() {
  const visible = points.filter((point) => within(place(point))), turn = ++listing;
  $("in-view-count").textContent = count(visible.length);
  const first = [...visible.filter((point) => chosen.has(point.row)), ...visible.filter((point) => !chosen.has(point.row))].slice(0, LISTED).map((point) => point.row);
  const found = first.length ? (await ask(`/some?rows=${first.join(",")}`)).items : [];
  if (turn !== listing) return;
  listed = found;
  at = Math.min(at, Math.max(0, listed.length - 1));
  $("in-view").replaceChildren(...listed.map((item, index) => element("div", { className: "cell", role: "option", tabIndex: index === at ? 0 : -1, "aria-selected": String(chosen.has(item.row)), "aria-label": `${item.id}, ${nameOf(item.group)}`, dataset: { row: item.row }, onclick: () => { look(index); toggle(); } }, picture(item.row, item.id))));
  told();
}
function look(index) {
  const cells = $("in-view").children;
  at = Math.max(0, Math.min(cells.length - 1, index));
  [...cells].forEach((cell, i) => { cell.tabIndex = i === at ? 0 : -1; });
  cells[at]?.focus();
}
function toggle() {
  const item = listed[at];
  if (!item) return;
  if (chosen.has(item.row)) chosen.delete(item.row); else chosen.add(item.row);
  lasso = lasso && chosen.size > 0;
  $("in-view").children[at].setAttribute("aria-selected", String(chosen.has(item.row)));
  told();
  draw();
}
const clear = () => { chosen = new Set(); lasso = false; draw(); list(); };
const after = async () => { clear(); await load(); };
// What a lasso took was not looked at one by one.
const how = () => (lasso ? "lasso" : chosen.size === 1 ? "single" : "several");
async function move(to) {
  if (!chosen.size || to === null) return;
  used(to);
  await attempt(() => decide("move", { rows: written([...chosen]), to, how: how() }), after);
}
async function approve() {
  for (const group of new Set(points.filter((point) => chosen.has(point.row) && point.group >= 0).map((point) => point.group))) {
    const rows = written(points.filter((point) => chosen.has(point.row) && point.group === group).map((point) => point.row));
    if (!await attempt(() => decide("approve", { group, rows, seen: lasso ? "" : rows }))) return;
  }
  await after();
}
const reject = () => (chosen.size ? attempt(() => decide("reject", { rows: written([...chosen]), how: how() }), after) : null);
function zoom(factor, [cx, cy] = [0.5, 0.5]) {
  const scale = Math.max(1, Math.min(64, view.scale * factor));
  view = { scale, x: view.x + cx / view.scale - cx / scale, y: view.y + cy / view.scale - cy / scale };
  if (scale === 1) view = { x: 0, y: 0, scale: 1 };
  draw();
  list();
}
function shift(dx, dy) {
  view.x += dx / view.scale / 5;
  view.y += dy / view.scale / 5;
  draw();
  list();
}
function fit() {
  const there = points.filter((point) => chosen.has(point.row));
  if (!there.length) return;
  // No spread: a call takes some 100,000 arguments, and a lasso more points.
  let [left, right, top, bottom] = [1, 0, 1, 0];
  for (const { x, y } of there) [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
  const side = Math.max(right - left, bottom - top, 0.02) * 1.1;
  view = { scale: Math.min(64, 1 / side), x: left - side * 0.05, y: top - side * 0.05 };
  draw();
  list();
}
const whole = () => { view = { x: 0, y: 0, scale: 1 }; draw(); list(); };
if (canvas) {
  const spot = (event) => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height]; };
  let begun = null;
  canvas.addEventListener("pointerdown", (event) => { begun = spot(event); path = [begun]; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (!begun) return;
    const [x, y] = spot(event);
    if (event.shiftKey) path = [begun, [x, begun[1]], [x, y], [begun[0], y]]; else path.push([x, y]);
    draw();
  });
  canvas.addEventListener("pointerup", () => {
    if (!begun) return;
    const region = path;
    begun = path = null;
    if (region.length > 2) {
      chosen = new Set(points.filter((point) => inside(region, place(point))).map((point) => point.row));
      lasso = chosen.size > 0;
    }
    draw();
    list();
  });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); const [x, y] = spot(event); zoom(event.deltaY < 0 ? 1.25 : 0.8, [x / canvas.width, y / canvas.height]); }, { passive: false });
  new ResizeObserver(draw).observe(canvas);
  const inList = () => $("in-view").contains(document.activeElement), columns = () => Math.max(1, Math.round($("in-view").clientWidth / 70));
  onKeys({
    ArrowRight: () => (inList() ? look(at + 1) : shift(1, 0)), ArrowLeft: () => (inList() ? look(at - 1) : shift(-1, 0)),
    ArrowDown: () => (inList() ? look(at + columns()) : shift(0, 1)), ArrowUp: () => (inList() ? look(at - columns()) : shift(0, -1)),
    " ": () => { if (inList()) toggle(); }, "*": () => { listed.forEach((item) => chosen.add(item.row)); draw(); list(); },
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: whole, Escape: clear, Enter: () => { if (listed[at]) enlarge((i) => listed[i], at); },
    digit: inTurn(move), g: inTurn(async () => move(await chooseGroup())), a: inTurn(approve), x: inTurn(reject),
  });
  digits(inTurn(move));
  const picks = { move: async () => move(await chooseGroup()), approve, reject, zoom: fit, whole };
  for (const button of document.querySelectorAll("[data-pick]")) button.onclick = () => picks[button.dataset.pick]();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  onChange(load);
  load();
} else digits(() => {});
compute($("features"), $("job"));
