// A page's controls. Without this script the page is complete: attributes that the
// script sets on the root element show the controls and hide a dialect.
(() => {
  "use strict";

  const root = document.documentElement;
  const wide = matchMedia("(min-width: 1000px)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const BAR = 48; // px, the height of the bar
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Storage throws where it is forbidden: then the page works and remembers nothing.
  const memory = {
    get(name) {
      try {
        return localStorage.getItem(`kvt-${name}`);
      } catch {
        return null;
      }
    },
    set(name, value) {
      try {
        if (value) localStorage.setItem(`kvt-${name}`, value);
        else localStorage.removeItem(`kvt-${name}`);
      } catch {}
    },
  };

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // Makes a change that moves the page, and keeps `place` at the same height.
  function keeping(place, change) {
    const before = place?.getBoundingClientRect().top;
    change();
    if (!place?.checkVisibility()) return;
    const { top, bottom } = place.getBoundingClientRect();
    scrollBy({ top: top - before, behavior: "instant" });
    if (bottom - top + before < BAR) place.scrollIntoView({ behavior: "instant" });
  }

  // Returns what the reader looks at: the first heading or row that begins in the
  // window, or else the row that fills it.
  function here() {
    const places = all("main :is(h2, h3, h4, .dialects)").filter((place) =>
      place.checkVisibility(),
    );
    const tops = places.map((place) => place.getBoundingClientRect().top);
    const first = tops.findIndex((top) => top >= BAR);
    return tops[first] < innerHeight ? places[first] : places.at(first - 1);
  }

  // Dialects: one choice for the whole report, which TensorFlow is shown beside Keras.

  const DIALECTS = ["keras", "tf2", "tf1"];
  const TENSORFLOW = ["tf2", "tf1"];

  function show(dialect) {
    root.dataset.dialect = ""; // the script runs
    root.dataset.tensorflow = dialect;
    // The browser's own search finds the other dialect, too, and shows it.
    for (const pane of all(".either > :is(.tf2, .tf1)"))
      pane.hidden = pane.classList.contains(dialect) ? false : "until-found";
  }

  function remembered() {
    const asked = new URLSearchParams(location.search).get("dialect");
    const known = [asked, memory.get("dialect")];
    show(known.find((it) => TENSORFLOW.includes(it)) ?? "tf2");
  }

  function choose(dialect, place = here()) {
    keeping(place, () => show(dialect));
    memory.set("dialect", dialect);
    const address = new URL(location);
    address.searchParams.set("dialect", dialect);
    renamed(address);
    reflect();
  }

  // Changes the address without loading a page.
  function renamed(address) {
    try {
      history.replaceState(null, "", address);
    } catch {} // some browsers forbid this to local files
  }

  // Makes the switch show the choice.
  function reflect() {
    const { tensorflow } = root.dataset;
    for (const input of all(".switch input")) input.checked = input.value === tensorflow;
  }

  function isShown(pane) {
    return !pane.hidden && pane.checkVisibility();
  }

  function dialectOf(pane) {
    return DIALECTS.find((dialect) => pane.classList.contains(dialect));
  }

  function startDialects() {
    show(root.dataset.tensorflow); // now that the panes are there
    find(".switch")?.addEventListener("change", (event) => choose(event.target.value));
    document.addEventListener("beforematch", ({ target }) => uncover(target));
    reflect();
  }

  // Marks: lines that do the same light up together, with their name from the legend.

  function light(idea) {
    for (const lit of all(".lit")) lit.classList.remove("lit");
    if (!idea) return;
    for (const one of all(`[data-idea="${idea}"]`)) one.classList.add("lit");
    for (const mark of all(".lit .mark")) placeLabel(mark);
  }

  // Puts the label beside the mark, or below it if the pane ends too early.
  function placeLabel(mark) {
    mark.classList.remove("below");
    const label = 1.5 * parseFloat(getComputedStyle(mark).fontSize)
      + parseFloat(getComputedStyle(mark, "::after").width);
    const room = mark.closest("pre").getBoundingClientRect().right
      - mark.getBoundingClientRect().right;
    mark.classList.toggle("below", label > room);
  }

  // Scrolls a line's counterparts in other dialects into view. Instantly for the
  // keyboard: its next step scrolls too, and the focused line has to stay in view.
  function reveal(line, within, behavior = "instant") {
    const nearest = { block: "nearest", inline: "nearest" };
    const own = line.closest(".dialect");
    for (const pane of all(".dialect", within)) {
      const there = find(`.line[data-idea="${line.dataset.idea}"]`, pane);
      if (!there || pane === own || !isShown(pane)) continue;
      open(there);
      if (still.matches) behavior = "instant";
      find(".mark", there).scrollIntoView({ ...nearest, behavior });
    }
    if (behavior === "instant") find(".mark", line).scrollIntoView(nearest);
  }

  // Goes to a line, even if it is hidden.
  function visit(line) {
    uncover(line);
    find(".mark", line).focus({ preventScroll: true });
    line.scrollIntoView({ block: "center" });
  }

  // Returns the first line that does the same in the next dialect of those shown.
  function counterpart(line) {
    const first = new Map();
    for (const other of all(`.line[data-idea="${line.dataset.idea}"]`)) {
      const pane = other.closest(".dialect");
      const kind = dialectOf(pane);
      if (isShown(pane) && !first.has(kind)) first.set(kind, other);
    }
    const shown = [...first.keys()];
    const at = shown.indexOf(dialectOf(line.closest(".dialect")));
    return first.get(shown[(at + 1) % shown.length]) ?? line;
  }

  function startMarks() {
    let resting;
    let pointer = "";
    const place = (event) => `${event.clientX} ${event.clientY}`;
    const ideaAt = (target) => target.closest?.("[data-idea]");
    const focused = () => ideaAt(document.activeElement);
    document.addEventListener("pointermove", (event) => (pointer = place(event)));
    document.addEventListener("pointerover", (event) => {
      if (place(event) === pointer) return; // the page moved, not the pointer
      clearTimeout(resting);
      const one = ideaAt(event.target);
      light((one ?? focused())?.dataset.idea);
      // A pointer that passes over a line does not scroll the page; one that rests does.
      const row = one?.closest(".dialects");
      if (!row || !wide.matches) return;
      resting = setTimeout(() => reveal(one, row, "smooth"), 200);
    });
    document.addEventListener("focusin", (event) => {
      const one = ideaAt(event.target);
      light(one?.dataset.idea);
      const row = one?.closest(".dialects");
      if (row && wide.matches) reveal(one, row);
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest(".mark, .idea");
      if (link && isForBrowser(event)) return;
      if (!link) return;
      event.preventDefault();
      const line = ideaAt(link);
      if (link.matches(".idea"))
        return visit(find(`.dialect [data-idea="${line.dataset.idea}"]`));
      if (!wide.matches) return visit(counterpart(line));
      link.focus({ preventScroll: true });
      reveal(line, document, "smooth");
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") light(null);
    });
  }

  // Contents: mark the reader's place.

  function startContents() {
    const contents = find(".contents");
    const links = new Map(all("a", contents).map((link) => [idOf(link), link]));
    const headings = all("main :is(h1, h2, h3, h4)").filter(({ id }) => links.has(id));
    function update() {
      const line = innerHeight / 4;
      const passed = headings.filter(
        (heading) =>
          heading.getClientRects().length && heading.getBoundingClientRect().top < line,
      );
      const current = links.get((passed.at(-1) ?? headings[0])?.id);
      for (const one of all("[aria-current]", contents)) one.ariaCurrent = null;
      if (!current) return;
      current.ariaCurrent = "location";
      for (const item of all("li", contents))
        item.classList.toggle("here", item.contains(current));
      if (contents.checkVisibility()) follow(contents, current);
    }
    let asked = false;
    document.addEventListener("scroll", () => {
      if (!asked) requestAnimationFrame(() => {
        asked = false;
        update();
      });
      asked = true;
    }, { passive: true });
    contents.addEventListener("click", (event) => {
      if (event.target.closest("a") && contents.matches(":popover-open"))
        contents.hidePopover();
    });
    contents.addEventListener("toggle", update);
    requestAnimationFrame(update); // when the browser has laid the page out anyway
  }

  // Keeps the current entry in view if the contents themselves scroll.
  function follow(contents, link) {
    const [box, own] = [contents, link].map((each) => each.getBoundingClientRect());
    if (own.top < box.top + 40) contents.scrollTop += own.top - box.top - 40;
    if (own.bottom > box.bottom - 40) contents.scrollTop += own.bottom - box.bottom + 40;
  }

  // A link may lead to what the reader's choices hide, or to what was on this page when
  // the report was a single one.
  function arrive(place) {
    const id = idOf(place);
    const target = document.getElementById(id);
    if (!target) return moved(id);
    if (target.checkVisibility()) return;
    uncover(target);
    target.scrollIntoView({ behavior: "instant" });
  }

  // The id that a link or the address leads to; "#100%" is no code for another one.
  function idOf({ hash }) {
    try {
      return decodeURIComponent(hash.slice(1));
    } catch {
      return hash.slice(1);
    }
  }

  // An id begins with its section's, and a figure's has its section's number.
  function moved(id) {
    const figure = /^figure-(\d+)-\d+/.exec(id)?.[1].padStart(2, "0");
    const link = all(".contents [data-section]")
      .filter((one) => {
        const { section } = one.dataset;
        const named = id === section || id.startsWith(`${section}-`);
        return named || (figure && find(".number", one).textContent === figure);
      })
      .sort((a, b) => b.dataset.section.length - a.dataset.section.length)[0];
    const page = link?.getAttribute("href").split("#")[0];
    if (!page) return; // on this page: the heading has another name now
    location.replace(`${page}${location.search}#${encodeURIComponent(id)}`);
  }

  function uncover(target) {
    const pane = target.closest(".dialect");
    if (pane?.hidden) choose(dialectOf(pane), null);
    open(target);
  }

  // Opens every fold around an element.
  function open(element) {
    for (let it = element.closest("details"); it; it = it.parentElement.closest("details"))
      it.open = true;
  }

  // Whether the click opens a new tab or window: the browser does that.
  function isForBrowser(event) {
    return event.ctrlKey || event.metaKey || event.shiftKey;
  }

  function startLinks() {
    // A click on a link to the current address does not change the hash.
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[href^='#']");
      if (link && !event.defaultPrevented && !isForBrowser(event)) arrive(link);
    });
    addEventListener("hashchange", () => arrive(location));
    arrive(location);
  }

  // Fold all code, or open what was open at first. A summary folds its own piece. Paper
  // shows everything.

  function startFolding() {
    const button = find("#fold");
    if (!button) return;
    const pieces = all("details.source");
    const atFirst = new Set(pieces.filter((details) => details.open));
    button.addEventListener("click", () => {
      const fold = button.ariaPressed !== "true";
      button.ariaPressed = fold;
      keeping(here(), () => {
        for (const details of pieces) details.open = !fold && atFirst.has(details);
      });
    });
    name(button, "Fold code");
    let closed = [];
    addEventListener("beforeprint", () => {
      closed = all("details:not([open])");
      for (const details of closed) details.open = true;
    });
    addEventListener("afterprint", () => {
      for (const details of closed) details.open = false;
    });
  }

  // Names a button whose word is hidden on a narrow screen.
  function name(button, text) {
    button.ariaLabel = text;
    button.title = text;
  }

  // Copy: marks are not text, so the copied code runs.

  async function copy(button) {
    const code = find("code", button.parentElement);
    let done = "Copied";
    try {
      await navigator.clipboard.writeText(code.textContent.trimEnd());
    } catch {
      getSelection().selectAllChildren(code);
      done = document.execCommand("copy") ? "Copied" : "Selected";
    }
    button.textContent = done;
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }

  function startCopying() {
    const button = make("button", { type: "button", className: "copy" }, "Copy");
    for (const code of all(".source > pre:last-child")) code.after(button.cloneNode(true));
    document.addEventListener("click", ({ target }) => {
      if (target.matches?.(".copy")) copy(target);
    });
  }

  // Downloads: the page contains notebooks and programs compressed by gzip. A click
  // decompresses the file. Browsers that cannot do that download it compressed.

  async function unpacked(link) {
    const packed = Uint8Array.from(atob(link.href.split(",")[1]), (c) => c.charCodeAt());
    const stream = new Blob([packed]).stream();
    return new Response(stream.pipeThrough(new DecompressionStream("gzip"))).blob();
  }

  function startDownloads() {
    if (!globalThis.DecompressionStream) return;
    for (const link of all(".download a")) {
      link.addEventListener("click", async (event) => {
        event.preventDefault();
        const href = URL.createObjectURL(await unpacked(link));
        make("a", { href, download: link.download.replace(".gz", "") }).click();
        setTimeout(() => URL.revokeObjectURL(href), 60_000);
      });
    }
  }

  // Theme: the system's, until the reader chooses the other one.

  function paint(theme) {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  }

  function startTheme() {
    const button = find("#theme");
    const system = () => (dark.matches ? "dark" : "light");
    const isDark = () => (root.dataset.theme ?? system()) === "dark";
    const update = () => (button.ariaPressed = isDark());
    button.addEventListener("click", () => {
      const wanted = isDark() ? "light" : "dark";
      const theme = wanted === system() ? null : wanted;
      paint(theme);
      memory.set("theme", theme);
      update();
    });
    dark.addEventListener("change", update);
    name(button, "Dark theme");
    update();
  }

  // Only boxes that scroll can be reached by the keyboard.
  function startScrollers() {
    const observer = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        const scrolls = target.scrollWidth > target.clientWidth;
        target.classList.toggle("scrolls", scrolls);
        if (scrolls) target.tabIndex = 0;
        else target.removeAttribute("tabindex");
      }
    });
    for (const scroller of all("main :is(pre, .table, .formula, .picture)"))
      observer.observe(scroller);
  }

  // What the other scripts of a page use.
  globalThis.kvt = { all, find, isForBrowser, make, renamed };

  // Until the page is complete, the browser lays out only the chapters in view.
  root.dataset.loading = "";

  // Before the first paint, so that nothing jumps.
  const theme = memory.get("theme");
  if (["light", "dark"].includes(theme)) paint(theme);
  remembered();

  addEventListener("DOMContentLoaded", () => {
    delete root.dataset.loading;
    startDialects();
    startMarks();
    startContents();
    startFolding();
    startCopying();
    startDownloads();
    startTheme();
    startScrollers();
    startLinks();
  });
})();
