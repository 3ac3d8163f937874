// The page's controls. Without this script the page is complete: attributes that the
// script sets on the root element show the controls and hide dialects.
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

  // Dialects: one choice for the whole page. `dialect` is the selected tab on a phone,
  // `tensorflow` the column beside Keras on a wide screen.

  const DIALECTS = ["keras", "tf2", "tf1"];

  function show(dialect) {
    root.dataset.dialect = dialect;
    if (dialect !== "keras") root.dataset.tensorflow = dialect;
  }

  function remembered() {
    const asked = new URLSearchParams(location.search).get("dialect");
    const known = [asked, memory.get("dialect")].find((it) => DIALECTS.includes(it));
    show("tf2");
    show(known ?? (wide.matches ? "tf2" : "keras"));
  }

  function choose(dialect, place = here()) {
    keeping(place, () => show(dialect));
    memory.set("dialect", dialect);
    const address = new URL(location);
    address.searchParams.set("dialect", dialect);
    try {
      history.replaceState(null, "", address);
    } catch {} // some browsers forbid this to local files
    reflect();
  }

  // Makes the switch and the tabs show the choice.
  function reflect() {
    const { dialect, tensorflow } = root.dataset;
    for (const input of all(".switch input")) input.checked = input.value === tensorflow;
    for (const tab of all(".tabs [role=tab]")) {
      const selected = tab.value === dialect;
      tab.ariaSelected = selected;
      tab.tabIndex = selected ? 0 : -1;
    }
    for (const tabs of all(".tabs")) {
      // A row without the chosen dialect shows all its dialects.
      tabs.hidden = !all("[role=tab]", tabs).some((tab) => tab.value === dialect);
      for (const tab of all("[role=tab]", tabs)) {
        const pane = document.getElementById(tab.getAttribute("aria-controls"));
        pane.role = wide.matches || tabs.hidden ? null : "tabpanel";
        if (pane.role) pane.setAttribute("aria-labelledby", tab.id);
        else pane.removeAttribute("aria-labelledby");
      }
    }
  }

  function dialectOf(pane) {
    return DIALECTS.find((dialect) => pane.classList.contains(dialect));
  }

  function addTabs(row, index) {
    const tabs = make("div", { className: "tabs", role: "tablist" });
    tabs.ariaLabel = "Dialect";
    for (const pane of all(".dialect", row)) {
      const dialect = dialectOf(pane);
      pane.id = `row-${index}-${dialect}`;
      const tab = make("button", {
        type: "button",
        role: "tab",
        id: `${pane.id}-tab`,
        className: dialect,
        value: dialect,
        textContent: find(".name", pane).textContent,
      });
      tab.setAttribute("aria-controls", pane.id);
      tabs.append(tab);
    }
    tabs.addEventListener("click", (event) => {
      const tab = event.target.closest("[role=tab]");
      if (tab) choose(tab.value, tabs);
    });
    tabs.addEventListener("keydown", (event) => {
      const own = all("[role=tab]", tabs);
      const at = own.indexOf(event.target);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = own.at(to % own.length);
      choose(next.value, tabs);
      next.focus();
    });
    row.prepend(tabs);
  }

  function startDialects() {
    all(".dialects:not(.migration)").forEach(addTabs); // a migration is shown whole
    find(".switch").addEventListener("change", (event) => choose(event.target.value));
    wide.addEventListener("change", reflect);
    reflect();
  }

  // Marks: lines that do the same light up together, with their name from the legend.

  let card = null;

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
      if (!there || pane === own || !pane.checkVisibility()) continue;
      find("details", pane).open = true;
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

  // Clears the filter if it hides all counterparts of a line.
  function regain(line) {
    const others = all(`.line[data-idea="${line.dataset.idea}"]`).filter(
      (other) => other.closest(".dialect") !== line.closest(".dialect"),
    );
    if (others.length && others.every((other) => other.closest(".elsewhere")))
      clearFilter();
  }

  function closeCard() {
    card?.remove();
    card = null;
  }

  // On a phone the counterparts are in hidden tabs: a card shows them and links there.
  function openCard(line) {
    closeCard();
    const mark = find(".mark", line);
    const close = make("button", { className: "close", ariaLabel: "Close" }, "✕");
    close.addEventListener("click", () => {
      closeCard();
      mark.focus();
    });
    const title = make("p", {}, `${mark.dataset.number} ${mark.dataset.name}`);
    card = make("div", { className: "card", role: "group" }, title, close);
    card.ariaLabel = mark.dataset.name;
    const lines = all(`.line[data-idea="${line.dataset.idea}"]`);
    for (const other of lines) {
      const pane = other.closest(".dialect");
      if (dialectOf(pane) === root.dataset.dialect) continue;
      const name = make("b", {}, find(".name", pane).textContent);
      const code = make("code", {}, other.textContent.trim());
      const there = make("button", { className: `there ${dialectOf(pane)}` }, name, code);
      there.addEventListener("click", () => {
        closeCard();
        choose(dialectOf(pane));
        visit(other);
      });
      card.append(there);
    }
    // In the row, so that the keyboard reaches it after the mark.
    line.closest(".dialects").append(card);
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
      if (!link) {
        if (card && !card.contains(event.target)) closeCard();
        return;
      }
      event.preventDefault();
      const { idea } = ideaAt(link).dataset;
      if (link.matches(".idea")) {
        visit(find(`.${root.dataset.dialect} [data-idea="${idea}"]`));
        return;
      }
      link.focus({ preventScroll: true });
      if (!wide.matches) return openCard(ideaAt(link));
      regain(ideaAt(link));
      reveal(ideaAt(link), document, "smooth");
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      closeCard();
      light(null);
    });
  }

  // Contents: mark the reader's place.

  function startContents() {
    const contents = find(".contents");
    const links = new Map(
      all("a", contents).map((link) => [decodeURIComponent(link.hash.slice(1)), link]),
    );
    const headings = all("main :is(h2, h3, h4)").filter(({ id }) => links.has(id));
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
    update();
  }

  // Keeps the current entry in view if the contents themselves scroll.
  function follow(contents, link) {
    const [box, own] = [contents, link].map((each) => each.getBoundingClientRect());
    if (own.top < box.top + 40) contents.scrollTop += own.top - box.top - 40;
    if (own.bottom > box.bottom - 40) contents.scrollTop += own.bottom - box.bottom + 40;
  }

  // A link may lead to something that the reader's choices hide.
  function arrive(hash) {
    const target = document.getElementById(decodeURIComponent(hash.slice(1)));
    if (!target || target.checkVisibility()) return;
    uncover(target);
    target.scrollIntoView({ behavior: "instant" });
  }

  function uncover(target) {
    if (target.closest(".elsewhere")) clearFilter();
    const pane = target.closest(".dialect");
    if (pane && !pane.checkVisibility()) choose(dialectOf(pane));
    const details = target.closest("details");
    if (details) details.open = true;
  }

  // Whether the click opens a new tab or window: the browser does that.
  function isForBrowser(event) {
    return event.ctrlKey || event.metaKey || event.shiftKey;
  }

  function startLinks() {
    // A click on a link to the current address does not change the hash.
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[href^='#']");
      if (link && !event.defaultPrevented && !isForBrowser(event)) arrive(link.hash);
    });
    addEventListener("hashchange", () => arrive(location.hash));
    arrive(location.hash);
  }

  function clearFilter() {
    const input = find("#filter");
    input.value = "";
    input.dispatchEvent(new Event("input"));
  }

  // Filter: show the parts of the page, heading to heading, that contain the words.

  function split() {
    const parts = [];
    for (const section of all("main > section")) {
      for (const block of section.children) {
        const heads = /^H\d$/.test((block.firstElementChild ?? block).tagName);
        if (heads || /^H\d$/.test(block.tagName) || block === section.firstElementChild)
          parts.push({ section, blocks: [] });
        parts.at(-1).blocks.push(block);
      }
    }
    return parts;
  }

  const CONTROLS = ".copy, .tabs, summary, .anchor";
  const APART =
    "p, li, td, th, caption, pre, dt, dd, h2, h3, h4, h5, h6, figcaption, text, div";

  const isText = (node) =>
    node.parentElement.closest(CONTROLS)
      ? NodeFilter.FILTER_REJECT
      : NodeFilter.FILTER_ACCEPT;

  // Finds the words in a block: across the elements that color code, but not from one
  // cell or paragraph to the next.
  function ranges(block, words) {
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT, isText);
    let last = null;
    const starts = [];
    const nodes = [];
    let text = "";
    while (walker.nextNode()) {
      const holder = walker.currentNode.parentElement.closest(APART);
      if (holder !== last) text += "\n"; // a search field cannot contain it
      last = holder;
      starts.push(text.length);
      nodes.push(walker.currentNode);
      text += walker.currentNode.data.toLowerCase();
    }
    const place = (offset) => {
      const index = starts.findLastIndex((start) => start <= offset);
      return [nodes[index], Math.min(offset - starts[index], nodes[index].length)];
    };
    const found = [];
    for (let at = text.indexOf(words); at >= 0; at = text.indexOf(words, at + 1)) {
      const range = new Range();
      range.setStart(...place(at));
      range.setEnd(...place(at + words.length));
      found.push(range);
    }
    return found;
  }

  function startFilter() {
    const input = find("#filter");
    const output = find(".filter output");
    const parts = split();
    const opened = new Set(); // folded code that the filter opened

    function narrow(words) {
      const hits = [];
      let count = 0;
      for (const folded of opened) folded.open = false;
      opened.clear();
      for (const one of all(".found")) one.classList.remove("found");
      for (const part of parts) {
        const own = words ? part.blocks.flatMap((block) => ranges(block, words)) : [];
        part.shown = !words || own.length > 0;
        count += part.shown;
        for (const range of own) unfold(range.startContainer.parentElement);
        hits.push(...own);
      }
      for (const { section, blocks, shown } of parts) {
        const kept = parts.some((part) => part.section === section && part.shown);
        section.classList.toggle("elsewhere", !kept);
        // A section's title stays above the parts that match.
        for (const block of blocks) {
          const title = kept && block === section.firstElementChild;
          block.classList.toggle("elsewhere", !shown && !title);
        }
      }
      for (const link of all(".contents a")) {
        const heading = document.getElementById(decodeURIComponent(link.hash.slice(1)));
        link.parentElement.classList.toggle("elsewhere", !!heading.closest(".elsewhere"));
      }
      if (globalThis.Highlight && CSS.highlights) {
        CSS.highlights.set("found", new Highlight(...hits));
      }
      const hit = `${hits.length} ${hits.length === 1 ? "hit" : "hits"}`;
      if (!words) output.value = "";
      else if (!count) output.value = "No hits";
      else output.value = `${hit} in ${count} of ${parts.length} parts`;
    }

    // Shows a dialect that is not chosen, and opens folded code.
    function unfold(element) {
      element.closest(".dialect")?.classList.add("found");
      const details = element.closest("details:not([open])");
      if (!details) return;
      details.open = true;
      opened.add(details);
    }

    input.addEventListener("input", () => {
      const words = input.value.trim().toLowerCase();
      keeping(words ? null : here(), () => narrow(words));
      if (words) find("main").scrollIntoView({ behavior: "instant" });
    });
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !input.value) return;
      event.preventDefault();
      clearFilter();
    });
  }

  // Fold all code; the summary of a single piece folds that piece.

  function startFolding() {
    const button = find("#fold");
    button.addEventListener("click", () => {
      const fold = button.ariaPressed !== "true";
      button.ariaPressed = fold;
      keeping(here(), () => {
        for (const details of all("details.source")) details.open = !fold;
      });
    });
    name(button, "Fold code");
  }

  // Names a button whose word is hidden on a narrow screen.
  function name(button, text) {
    button.ariaLabel = text;
    button.title = text;
  }

  // Copy: marks are not text, so the copied code runs.

  async function copy(code, button) {
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
    for (const source of all(".source")) {
      const button = make("button", { type: "button", className: "copy" }, "Copy");
      button.addEventListener("click", () => copy(find("code", source), button));
      find("pre", source).after(button);
    }
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
        if (scrolls) target.tabIndex = 0;
        else target.removeAttribute("tabindex");
      }
    });
    const scrollers = all(":is(pre, .table, .formula)[tabindex]");
    for (const scroller of scrollers) observer.observe(scroller);
  }

  // Before the first paint, so that nothing jumps.
  const theme = memory.get("theme");
  if (["light", "dark"].includes(theme)) paint(theme);
  remembered();

  addEventListener("DOMContentLoaded", () => {
    startDialects();
    startMarks();
    startContents();
    startFilter();
    startFolding();
    startCopying();
    startDownloads();
    startTheme();
    startScrollers();
    startLinks();
  });
})();
