// A grid of any number of items, of which three screens are in the page. Keys act on what is selected, else on the focus.
import { $, ask, element, get, percent, nameOf, say } from "./common.js";
import { enlarge, picture } from "./pictures.js";

const KEYS = ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "PageDown", "PageUp", "Home", "End", " ", "Enter", "Escape"];
const PAGE = 60, SMALLEST = 112, UNDER = 36, GAP = 10, FAR = 10 * PAGE;

export class Grid {
  constructor(root, address, { caption = null, onSelect = () => {} } = {}) {
    Object.assign(this, { root, address, caption, onSelect, pages: new Map(), rows: new Map(), total: 0, current: 0, selected: new Map(), shown: new Set(), anchor: 0, version: 0 });
    root.replaceChildren();
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("click", (event) => this.click(event));
    root.addEventListener("dblclick", () => this.enlarge());
    window.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => { this.measure(); this.draw(); }).observe(root);
  }
  async load() {
    // What is shown stays until its successor is here.
    const version = ++this.version, first = Math.floor(this.current / PAGE);
    const answer = await ask(`${this.address()}&offset=${first * PAGE}&limit=${PAGE}`);
    if (version !== this.version) return;
    this.pages = new Map([[first, answer.items]]);
    this.total = answer.total;
    this.current = Math.max(0, Math.min(this.current, this.total - 1));
    this.root.setAttribute("aria-rowcount", Math.ceil(this.total / (this.columns || 1)));
    this.measure();
    const focused = this.root.contains(document.activeElement) || document.activeElement === document.body;
    this.root.replaceChildren();
    this.rows.clear();
    this.draw();
    if (focused) this.focus(this.current, false);
    this.onSelect(this);
  }
  // Keys that come while a decision is on its way wait for it, so that each acts on what is then shown.
  turn(work) {
    this.ahead = (this.ahead || 0) + 1;
    this.last = (this.last || Promise.resolve()).then(work).catch((error) => say(error.message, true)).finally(() => { this.ahead--; });
    return this.last;
  }
  async fetch(page) {
    if (!this.pages.has(page)) {
      const version = this.version;
      const promise = ask(`${this.address()}&offset=${page * PAGE}&limit=${PAGE}`).then((answer) => {
        if (version !== this.version) return null;
        this.total = answer.total;
        this.pages.set(page, answer.items);
        return answer.items;
      }).catch(() => { this.pages.delete(page); return null; });
      this.pages.set(page, promise);
    }
    return this.pages.get(page);
  }
  item(index) {
    if (index < 0 || index >= this.total) return null;
    const page = this.pages.get(Math.floor(index / PAGE));
    if (Array.isArray(page)) return page[index % PAGE] || null;
    this.fetch(Math.floor(index / PAGE)).then((items) => items && this.fill(Math.floor(index / PAGE)));
    return null;
  }
  measure() {
    const width = this.root.clientWidth || 800;
    this.root.style.height = `${Math.ceil(this.total / (this.columns || 1)) * (this.height || 0)}px`;
    if (width === this.width) return;
    this.width = width;
    this.columns = Math.max(2, Math.floor((width + GAP) / (SMALLEST + GAP)));
    this.tile = Math.floor((width + GAP) / this.columns) - GAP;
    this.height = this.tile + UNDER;
    this.root.style.height = `${Math.ceil(this.total / this.columns) * this.height}px`;
    const focused = this.root.contains(document.activeElement);
    this.rows.forEach((row) => row.remove());
    this.rows.clear();
    if (focused) this.focus(this.current, false);
  }
  draw() {
    if (!this.columns) this.measure();
    const top = this.root.getBoundingClientRect().top, screen = window.innerHeight;
    const last = Math.ceil(this.total / this.columns) - 1;
    const from = Math.max(0, Math.floor((-top - screen) / this.height)), to = Math.min(last, Math.floor((-top + 2 * screen) / this.height));
    for (const [index, row] of this.rows) if (index < from || index > to) {
      if (row.contains(document.activeElement)) continue;
      row.remove();
      this.rows.delete(index);
    }
    for (let index = from; index <= to; index++) if (!this.rows.has(index)) {
      const row = element("div", { className: "grid-row", role: "row", "aria-rowindex": index + 1 });
      row.style.transform = `translateY(${index * this.height}px)`;
      row.style.gridTemplateColumns = `repeat(${this.columns}, ${this.tile}px)`;
      for (let at = index * this.columns; at < Math.min(this.total, (index + 1) * this.columns); at++) row.append(this.cell(at));
      this.rows.set(index, row);
      this.root.append(row);
    }
    this.look();
  }
  // What has been on the screen: of the rest of a range nobody has looked at anything.
  look() {
    const top = this.root.getBoundingClientRect().top, from = Math.max(0, Math.floor(-top / this.height)) * this.columns;
    const to = Math.min(this.total, (Math.floor((window.innerHeight - top) / this.height) + 1) * this.columns);
    for (let index = from; index < to; index++) {
      const page = this.pages.get(Math.floor(index / PAGE)), item = Array.isArray(page) ? page[index % PAGE] : null;
      if (item) this.shown.add(item.row);
    }
  }
  cell(index) {
    const item = this.item(index);
    const node = element("div", { className: "cell", role: "gridcell", tabIndex: index === this.current ? 0 : -1, dataset: { index } });
    if (!item) { node.append(element("span", { className: "tile-picture" })); return node; }
    const chosen = this.selected.has(item.row);
    node.setAttribute("aria-selected", String(chosen));
    node.dataset.row = item.row;
    const mark = item.decided ? (item.seen ? "✓ seen" : "✓ inferred") : "";
    node.setAttribute("aria-label", `${item.id}, ${nameOf(item.group)}, ${percent(item.confidence)}${item.decided ? ", decided" : ""}`);
    node.append(picture(item.row, item.id), element("span", { className: "under" },
      element("b", { className: item.confidence < 0.5 ? "low" : "", textContent: percent(item.confidence) }),
      element("span", { textContent: this.caption ? this.caption(item) : mark })));
    return node;
  }
  fill(page) {
    for (let index = page * PAGE; index < Math.min(this.total, (page + 1) * PAGE); index++) {
      const old = this.root.querySelector(`[data-index="${index}"]`);
      if (old && !old.dataset.row) {
        const focused = old === document.activeElement, fresh = this.cell(index);
        old.replaceWith(fresh);
        if (focused) fresh.focus({ preventScroll: true });
      }
    }
    this.look();
  }
  focus(index, scroll = true) {
    if (!this.total) return;
    this.current = Math.max(0, Math.min(this.total - 1, index));
    const row = Math.floor(this.current / this.columns), top = this.root.getBoundingClientRect().top + row * this.height;
    if (scroll && (top < 120 || top + this.height > window.innerHeight - 70)) window.scrollBy(0, top < 120 ? top - 140 : top + this.height - window.innerHeight + 90);
    this.draw();
    for (const node of this.root.querySelectorAll('[tabindex="0"]')) node.tabIndex = -1;
    const node = this.root.querySelector(`[data-index="${this.current}"]`);
    if (node) { node.tabIndex = 0; node.focus({ preventScroll: true }); }
  }
  mark(index, on) {
    const item = this.item(index);
    if (!item) return;
    if (on) this.selected.set(item.row, item); else this.selected.delete(item.row);
    this.root.querySelector(`[data-index="${index}"]`)?.setAttribute("aria-selected", String(on));
  }
  async range(to) {
    const [a, b] = [Math.min(this.anchor, to), Math.max(this.anchor, to)];
    if (b - a > FAR) return this.far(a, b);
    for (let page = Math.floor(a / PAGE); page <= Math.floor(b / PAGE); page++) await this.fetch(page);
    for (let index = a; index <= b; index++) this.mark(index, true);
    this.onSelect(this);
  }
  // A range of many pages is asked for by its rows alone: a page at a time would be a thousand questions.
  async far(a, b) {
    const version = this.version, rows = new Int32Array(await (await get(this.address().replace("/items", "/order"))).arrayBuffer());
    if (version !== this.version) return;
    for (const row of rows.subarray(a, b + 1)) this.selected.set(row, row);
    for (const node of this.root.querySelectorAll(".cell[data-row]")) node.setAttribute("aria-selected", String(this.selected.has(Number(node.dataset.row))));
    this.onSelect(this);
  }
  // What is in the group no more cannot be seen, so no key may act on it.
  keep(rows) {
    for (const row of this.selected.keys()) if (!rows.has(row)) this.selected.delete(row);
    this.onSelect(this);
  }
  clear() {
    this.selected.clear();
    for (const node of this.root.querySelectorAll('[aria-selected="true"]')) node.setAttribute("aria-selected", "false");
    this.onSelect(this);
  }
  inView() {
    for (const node of this.root.querySelectorAll(".cell")) {
      const box = node.getBoundingClientRect();
      if (box.top + box.height / 2 > 60 && box.top + box.height / 2 < window.innerHeight - 50) this.mark(Number(node.dataset.index), true);
    }
    this.onSelect(this);
  }
  picked() {
    if (this.selected.size) return [...this.selected.keys()];
    const item = this.item(this.current);
    return item ? [item.row] : [];
  }
  enlarge() { enlarge((index) => this.item(index), this.current, (index) => this.focus(index)); }
  click(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const index = Number(cell.dataset.index);
    // A key that comes before all of the range is chosen waits for it: it would act on a part.
    if (event.shiftKey) this.turn(() => this.range(index));
    else {
      const on = !this.selected.has(Number(cell.dataset.row));
      this.anchor = index;
      this.mark(index, on);
    }
    this.focus(index, false);
    this.onSelect(this);
  }
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!KEYS.includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const { key, shiftKey } = event;
    if (this.ahead || shiftKey) this.turn(() => this.press({ key, shiftKey })); else this.press({ key, shiftKey });
  }
  press(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: this.columns * 4, PageUp: -this.columns * 4 }[event.key];
    if (step) {
      const to = Math.max(0, Math.min(this.total - 1, this.current + step));
      if (event.shiftKey && !this.selected.size) this.anchor = this.current;
      if (!event.shiftKey) this.anchor = to;
      this.focus(to);
      return event.shiftKey ? this.range(to) : null;
    } else if (event.key === "Home" || event.key === "End") this.focus(event.key === "Home" ? 0 : this.total - 1);
    else if (event.key === " ") {
      const item = this.item(this.current);
      if (item) { this.anchor = this.current; this.mark(this.current, !this.selected.has(item.row)); this.onSelect(this); }
    } else if (event.key === "Enter") this.enlarge();
    else this.clear();
  }
}
