// Pictures on every screen: what cannot be shown says why, what is late comes later, and a large view.
import { $, LATER, base, element, heard, nameOf, pause, percent } from "./common.js";

const data = document.body.dataset, pictures = data.pictures === "1";

// A picture that cannot be shown says why.
const reason = (image) => heard(fetch(image.src)).then(() => "cannot be shown", (error) => error.message);
// One that is only late, since the server is away or has too much to do, is asked for again.
async function excuse(image) {
  const error = await heard(fetch(image.src)).then(() => null, (failure) => failure), tries = Number(image.dataset.tries || 0);
  if (!image.isConnected) return;
  // The server has it, and yet it was not shown: the answer came between the two, or it is no picture.
  const answered = error ? 0 : Number(image.dataset.answered || 0) + 1;
  if (error ? LATER.includes(error.status) : answered <= 3) {
    Object.assign(image.dataset, { tries: tries + 1, answered });
    await pause(Math.min(5000, 300 * 2 ** tries));
    image.src = image.src;
    return;
  }
  const frame = image.parentElement;
  image.replaceWith(element("span", { className: "why", textContent: error?.message || "cannot be shown", title: image.alt }));
  frame?.classList.add("broken");
}
const ofItem = (image) => image instanceof HTMLImageElement && image.src.includes("/thumb/");
document.addEventListener("error", (event) => { if (ofItem(event.target)) excuse(event.target); }, true);
for (const image of document.images) if (image.complete && !image.naturalWidth && ofItem(image)) excuse(image);  // before this script ran

// Of tiny pictures the pixels are shown as they are.
document.addEventListener("load", (event) => { if (event.target instanceof HTMLImageElement) event.target.classList.toggle("pixel", event.target.naturalWidth <= 64); }, true);
for (const image of document.images) if (image.complete && image.naturalWidth) image.classList.toggle("pixel", image.naturalWidth <= 64);

export function picture(row, id) {
  const frame = element("span", { className: "tile-picture" });
  if (pictures) frame.append(element("img", { src: `${base}/thumb/${row}?v=${data.version}`, alt: id, decoding: "async", draggable: false }));
  else frame.append(element("span", { className: "why" }, element("code", { textContent: id.length > 40 ? `…${id.slice(-39)}` : id })));
  return frame;
}
const whole = (row) => `${base}/image/${row}?v=${data.version}`;
// A large view: the thumbnail at once, and in its place the picture itself when it has come.
export function large(row, id) {
  const frame = picture(row, id), small = frame.querySelector("img"), come = new Image();
  if (small === null) return frame;
  come.onload = () => { small.src = come.src; };
  come.src = whole(row);
  return frame;
}
export function ahead(rows) { if (pictures) for (const row of rows) new Image().src = `${base}/thumb/${row}?v=${data.version}`; }

export function enlarge(items, at, moved = () => {}) {
  const dialog = $("viewer"), image = dialog.querySelector("img"), caption = dialog.querySelector("figcaption"), before = document.activeElement;
  const show = () => {
    const item = items(at);
    if (!item) return;
    image.hidden = !pictures;
    if (pictures) image.src = whole(item.row);
    image.alt = item.id;
    const top = (item.top || []).map(([group, p]) => `${nameOf(group)} ${percent(p)}`).join(", ");
    caption.textContent = `${item.id}: ${item.group === undefined ? "" : `${nameOf(item.group)}. `}${top}`;
    image.onerror = async () => {
      const why = await reason(image);
      if (items(at) === item) { image.hidden = true; caption.textContent += ` (not shown: ${why})`; }
    };
  };
  dialog.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && items(at + step)) { at += step; moved(at); show(); event.preventDefault(); }
  };
  dialog.onclose = () => before?.focus?.({ preventScroll: true });
  show();
  if (!dialog.open) dialog.showModal();
}
