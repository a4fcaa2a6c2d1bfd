"use strict";
// Enlarge a picture; arrow keys walk through the pictures.
(() => {
  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const picture = viewer.querySelector("img"), caption = viewer.querySelector("figcaption");
  const all = [...document.querySelectorAll("button.thumb")];
  let at = 0;
  const show = (place) => {
    at = (place + all.length) % all.length;
    const image = all[at].querySelector("img");
    picture.src = image.src;
    picture.alt = image.alt;
    caption.textContent = image.alt;
  };
  all.forEach((button, place) => button.addEventListener("click", () => { show(place); viewer.showModal(); }));
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.querySelector("button").addEventListener("click", () => viewer.close());
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(at + 1);
    if (event.key === "ArrowLeft") show(at - 1);
  });
})();
// Bring the groups into another order.
(() => {
  const list = document.getElementById("groups-list"), choice = document.getElementById("order");
  if (!list || !choice) return;
  choice.addEventListener("change", () => {
    const [key, sign] = choice.value.split(" ");
    const rows = [...list.children].sort((a, b) => sign * (a.dataset[key] - b.dataset[key]));
    rows.forEach((row) => list.append(row));
  });
})();
// Single out one group on the map.
(() => {
  const map = document.querySelector("svg.map");
  if (!map) return;
  const parts = [...map.querySelectorAll("[data-group]")], keys = [...document.querySelectorAll(".legend button")];
  let chosen = null;
  const single = (group) => {
    chosen = chosen === group ? null : group;
    map.classList.toggle("single", chosen !== null);
    parts.forEach((part) => part.classList.toggle("chosen", part.dataset.group === chosen));
    keys.forEach((key) => key.setAttribute("aria-pressed", key.dataset.group === chosen));
  };
  [...parts, ...keys].forEach((part) => part.addEventListener("click", () => single(part.dataset.group)));
})();
// Copy the command.
(() => {
  const button = document.getElementById("copy");
  if (!button || !navigator.clipboard) return;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById("command").textContent);
    button.textContent = "Copied";
  });
})();
