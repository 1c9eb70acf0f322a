/** A list of any length that keeps only the visible rows in the page. All rows have one height; `fill(row, index)` writes one. */
class List {
  count = 0; active = -1; top = 0; view = 0; version = 0; follow = false; pool = [];
  constructor(element, { height, fill, pick, move = () => {}, dress = () => {} }) {
    Object.assign(this, { element, height, fill, pick, move, dress });
    this.space = element.appendChild(h("div", { class: "rows", role: "presentation" }));
    element.addEventListener("scroll", () => {
      this.top = element.scrollTop;
      if (this.mayFollow) this.follow = this.top + this.view >= this.space.offsetHeight - height;
      this.draw();
    }, { passive: true });
    element.addEventListener("click", (click) => { const row = click.target.closest(".row"); if (row) { this.go(row.at); pick(row.at); } });
    element.addEventListener("focus", () => { List.used = this; });
    new ResizeObserver(() => {
      // An element that was hidden has lost its scroll position.
      if (!this.view) element.scrollTop = this.top;
      this.view = element.clientHeight;
      if (this.view) { this.top = element.scrollTop; if (this.unseen) this.go(this.active, this.unseen.ahead); else this.draw(); }
    }).observe(element);
  }
  /** Sets the number of rows; a new `version` means that all of them have changed. */
  set(count, version) {
    if (count === this.count && version === this.version) return;
    Object.assign(this, { count, version });
    this.draw();
  }
  draw() {
    const { element, height, count, view, pool } = this, all = count * height, most = 8e6, space = Math.min(all, most);
    if (this.drawn !== space) { this.space.style.height = `${this.drawn = space}px`; this.top = Math.min(this.top, Math.max(0, space - view)); }
    if (this.follow && space > view && this.top !== space - view) { this.top = space - view; this.scrolls = true; }
    // Browsers limit the height of an element, so positions in a longer list are scaled to it.
    const from = all <= most ? this.top : this.top / (space - view) * (all - view);
    const first = Math.max(0, Math.floor(from / height) - 3), last = Math.min(count, Math.ceil((from + view) / height) + 3);
    const need = Math.max(12, Math.ceil(view / height) + 7);
    while (pool.length < need) pool.push(this.space.appendChild(h("div", { role: "option", id: `${element.id}-${pool.length}`, style: `height: ${height}px` })));
    while (pool.length > need) pool.pop().remove();
    const seen = new Set();
    for (let index = first; index < last; index++) {
      const row = pool[index % need];
      seen.add(row);
      if (row.at !== index || row.version !== this.version) {
        Object.assign(row, { at: index, version: this.version });
        this.fill(row, index);
        row.ariaPosInSet = index + 1;
      }
      this.dress(row, index);
      row.ariaSetSize = count;
      row.ariaSelected = index === this.active;
      row.style.top = `${this.top + index * height - from}px`;
      setVisible(row, true);
    }
    for (const row of pool) if (!seen.has(row)) { row.at = -1; setVisible(row, false); }
    const chosen = this.active >= first && this.active < last ? pool[this.active % need].id : "";
    if ((element.getAttribute("aria-activedescendant") ?? "") !== chosen) element.setAttribute("aria-activedescendant", chosen);
  }
  scroll() { if (this.scrolls) this.element.scrollTop = this.top; this.scrolls = false; }
  /** Makes a row the active one and scrolls to it; `ahead` is the part of the view that must show what follows. */
  go(index, ahead = 0) {
    this.active = Math.max(0, Math.min(this.count - 1, index));
    this.unseen = this.view ? null : { ahead };
    if (this.unseen) return;
    const all = this.count * this.height, space = Math.min(all, 8e6), scale = all > space ? (space - this.view) / (all - this.view) : 1;
    const top = this.active * this.height * scale;
    const least = top + this.height - this.view * (1 - ahead), most = Math.max(0, space - this.view);
    if (top < this.top || least > this.top) {
      this.follow = false;
      this.element.scrollTop = this.top = Math.max(0, Math.min(most, top < this.top ? top : least));
    }
    this.draw();
  }
  key(key) {
    const page = Math.max(1, Math.floor(this.view / this.height) - 1);
    const to = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[key];
    if (to === undefined || !this.count) return key === "Enter" && this.active >= 0 ? (this.pick(this.active), true) : false;
    this.go(this.active + to);
    this.move(this.active);
    return true;
  }
}
