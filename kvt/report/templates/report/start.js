// The first screen: lines between the pair's marks, and the changed line in the program.
(() => {
  "use strict";

  const NAMESPACE = "http://www.w3.org/2000/svg";
  const { all, find } = globalThis.kvt;

  const element = (name, attributes) => {
    const made = document.createElementNS(NAMESPACE, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  // The height of a marked line's middle, within the panes.
  function height(pane, idea, pair) {
    const line = find(`.line[data-idea="${idea}"]`, pane);
    const { top, bottom } = line.getBoundingClientRect();
    return (top + bottom) / 2 - pair.getBoundingClientRect().top;
  }

  function connect(pair) {
    const [left, right] = all(".dialect", pair);
    const outer = pair.getBoundingClientRect();
    const from = left.getBoundingClientRect().right - outer.left;
    const to = right.getBoundingClientRect().left - outer.left;
    find(".threads", pair)?.remove();
    if (to < from + 8) return; // one below the other
    const size = { width: outer.width, height: outer.height };
    const threads = element("svg", { class: "threads", "aria-hidden": "true", ...size });
    const middle = (from + to) / 2;
    for (const { dataset } of all(".line[data-idea]", left)) {
      const [a, b] = [left, right].map((pane) => height(pane, dataset.idea, pair));
      const d = `M${from} ${a}C${middle} ${a} ${middle} ${b} ${to} ${b}`;
      const thread = element("path", { d, "data-idea": dataset.idea });
      threads.append(thread);
    }
    pair.append(threads);
  }

  // Shows a line that is exchanged in the program itself, and the old lines again. A
  // changed line holds its old one, so that a saved page can show it, too.
  function exchange(pane, cause) {
    for (const line of all(".changed", pane)) {
      line.replaceChildren(...find("template", line).content.childNodes);
      line.classList.remove("changed");
    }
    const [old, instead] = ["del", "ins"].map((name) => all(name, cause));
    old.forEach((before, at) => {
      const line = all(".line", pane).find(
        (one) => one.textContent.trim() === before.textContent.trim(),
      );
      if (!line) return; // of a pair of its own
      const indent = line.textContent.match(/^ */)[0];
      const kept = document.createElement("template");
      kept.content.append(...[...line.childNodes].map((node) => node.cloneNode(true)));
      const nodes = [...instead[at].cloneNode(true).childNodes];
      nodes.at(-1).data = nodes.at(-1).data?.trimEnd(); // the mark is on the same line
      line.replaceChildren(indent, ...nodes, ...all(".mark", line), "\n", kept);
      line.classList.add("changed");
    });
    for (const input of all(".cause input"))
      input.toggleAttribute("checked", cause.contains(input));
  }

  addEventListener("DOMContentLoaded", () => {
    const pair = find(".pair");
    if (!pair) return;
    new ResizeObserver(() => connect(pair)).observe(pair);
    const pane = find(".dialect.tf2", pair);
    find(".causes")?.addEventListener("change", (event) => {
      exchange(pane, event.target.closest(".cause"));
    });
    const chosen = find(".cause :checked"); // a browser may remember the choice
    if (chosen) exchange(pane, chosen.closest(".cause"));
  });
})();
