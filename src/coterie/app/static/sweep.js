// The sweep of a group: from the sure end, in growing jumps, to the page where it stops being one group.

// Which page to look at next. `yes` pages belong as a whole, the first `no` page does not. Growing jumps (1, 2, 4, …)
// until a page fails, then bisection that looks at the first quarter first, for most boundaries lie near the sure end.
export class Search {
  constructor(pages) { Object.assign(this, { pages, low: -1, high: pages, step: 1, page: 0, careful: false, seen: new Set() }); }
  get done() { return this.high - this.low <= 1; }
  // All of the page belong (but for what was marked): everything before it is inferred to.
  yes(marked = false) {
    this.seen.add(this.page);
    this.low = this.page;
    this.careful ||= marked;
    this.next();
  }
  no() {
    this.high = this.page;
    this.next();
  }
  next() {
    if (this.done) return;
    if (this.careful) this.page = this.low + 1;
    else if (this.high === this.pages) {
      this.page = Math.min(this.low + this.step, this.pages - 1);
      this.step *= 2;
    } else this.page = this.low + Math.max(1, Math.floor((this.high - this.low) / 4));
  }
}

export const PAGE = 60;

// What a sweep decides: rows that were looked at, rows between them that are inferred, rows that were marked as strays.
export function outcome(search, rows, strays) {
  const approved = rows.slice(0, (search.low + 1) * PAGE).filter((row) => !strays.has(row)), seen = [];
  for (const page of search.seen) if (page <= search.low) seen.push(...rows.slice(page * PAGE, (page + 1) * PAGE).filter((row) => !strays.has(row)));
  return { approved, seen };
}

// "17,40-58": rows as the log has them.
export function written(rows) {
  const sorted = [...new Set(rows)].sort((a, b) => a - b), parts = [];
  for (let first = 0; first < sorted.length;) {
    let last = first;
    while (sorted[last + 1] === sorted[last] + 1) last++;
    parts.push(first === last ? `${sorted[first]}` : `${sorted[first]}-${sorted[last]}`);
    first = last + 1;
  }
  return parts.join(",");
}
