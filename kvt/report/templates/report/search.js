// The search: headings and words of all pages, from any page.
(() => {
  "use strict";

  const { all, find, isForBrowser, make, renamed } = globalThis.kvt;
  const MOST = 12; // results shown
  const WORD = /[\p{L}\p{N}_]+/gu;
  const LEFT_OUT = new Set(
    [
      "a an and are as at be been but by can do does each for from has have how i",
      "if in into is it its my of on one or so than that the their them then",
      "there these they this to use was were what when which why with you",
    ]
      .join(" ")
      .split(" "),
  );
  // What readers ask for, and the words of the report for it.
  const MEANS = {
    "training loop": "loop fit",
    "train loop": "loop fit",
    "val acc": "val_accuracy",
    val_acc: "val_accuracy",
    acc: "accuracy",
    "not reproducible": "seed",
    "non deterministic": "seed",
    nondeterministic: "seed",
    reproducible: "seed",
    reproducibility: "seed",
    deterministic: "seed",
    "random seed": "seed",
    "different every time": "seed",
    feed_dict: "placeholder session function arguments",
    "feed dict": "feed_dict",
    placeholder: "function arguments",
    sess: "session",
    filewriter: "summary graph tensorboard",
    patience: "early stopping",
    "early stop": "early stopping",
    "stop training": "early stopping",
    modelcheckpoint: "checkpoint",
    "save model": "save resume checkpoint",
    "load model": "restore checkpoint",
    "save weights": "save checkpoint",
    "load weights": "restore checkpoint",
    lr: "learning rate",
    scheduler: "schedule",
    "learning rate decay": "learning schedule",
    overfitting: "regularization",
    overfit: "regularization",
    batchnorm: "batch normalization",
    "batch norm": "batch normalization",
    "cross entropy": "crossentropy",
    "drop out": "dropout",
    "weight decay": "adamw",
    convnet: "convolutional network",
    cnn: "convolutional network",
    mlp: "feedforward network",
    "neural network": "feedforward network",
    "softmax regression": "logistic regression",
    "different results": "results differ",
    "wrong results": "results differ",
    mismatch: "results differ",
    speed: "seconds cost",
    slow: "seconds cost",
    faster: "seconds cost",
    performance: "seconds cost",
    "data loader": "input pipelines",
    dataloader: "input pipelines",
    nan: "clipped logits",
    bitwise: "bit agree",
    identical: "equal bit",
    jit: "xla",
    bug: "errors",
    migrate: "tensorflow 1 to 2",
    upgrade: "migrate tensorflow",
    port: "migrate tensorflow",
    serving: "savedmodel",
    "multi gpu": "strategy replicas",
    distributed: "strategy replicas",
    mse: "mean_squared_error",
  };

  // The index, as Python made it: see kvt/report/search.py.

  async function unpacked(text) {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt());
    const stream = new Blob([packed]).stream();
    return new Response(stream.pipeThrough(new DecompressionStream("gzip"))).json();
  }

  const words = (text) => text.toLowerCase().match(WORD) ?? [];

  // Returns words and the words in them: bias_add is also found by add.
  function tokens(text) {
    return words(text).flatMap((word) =>
      word.includes("_") ? [word, ...word.split("_").filter(Boolean)] : [word],
    );
  }

  async function load() {
    const { files, parts, words: known, places } = await unpacked(
      find("#search-index").content.textContent,
    );
    const documents = parts.map(([file, level, target, heading], number) => ({
      id: number,
      ...{ level, target, heading, words: [] },
      file: files[file],
      path: path(parts, number),
    }));
    known.forEach((word, index) => {
      if (LEFT_OUT.has(word)) return;
      let place = 0;
      for (const step of places[index]) documents[(place += step)].words.push(word);
    });
    for (const one of documents) one.words = one.words.join(" ");
    const engine = new MiniSearch({
      fields: ["heading", "path", "words"],
      storeFields: ["heading", "path", "file", "target", "level"],
      tokenize: tokens,
      searchOptions: {
        tokenize: words,
        boost: { heading: 6, path: 2 },
        boostDocument: (id, term, { target, level }) =>
          /-run-again$|^provenance/.test(target) ? 0.2 : 1 + 1 / level,
        prefix: (term) => term.length > 2,
        combineWith: "AND",
      },
    });
    engine.addAll(documents);
    return engine;
  }

  // Returns the headings above a part.
  function path(parts, number) {
    const above = [];
    let [file, level] = parts[number];
    for (let at = number - 1; at >= 0 && parts[at][0] === file && level > 2; at -= 1) {
      if (parts[at][1] >= level) continue;
      level = parts[at][1];
      above.unshift(parts[at][3]);
    }
    return above.join(" › ");
  }

  // Queries

  function meant(text) {
    // EarlyStopping is also asked for as early stopping, early-stopping and early_stopping.
    const apart = text.replace(/(\p{Ll})(\p{Lu})/gu, "$1 $2");
    const wanted = new Set([text, apart].map((one) => words(one).join(" ")));
    for (const query of [...wanted])
      for (const [phrase, means] of Object.entries(MEANS)) {
        const around = ` ${query} `;
        if (around.includes(` ${phrase} `))
          wanted.add(around.replace(` ${phrase} `, ` ${means} `).trim());
      }
    return [...wanted].map(telling).filter(Boolean);
  }

  // Drops words that say little, unless there are no others.
  function telling(query) {
    return words(query).filter((word) => !LEFT_OUT.has(word)).join(" ") || query;
  }

  function search(engine, text) {
    const queries = meant(text);
    if (!queries.length) return { results: [] };
    // All words of one of the queries
    const wanted = {
      combineWith: "OR",
      queries: queries.map((query) => ({ combineWith: "AND", queries: [query] })),
    };
    const results = engine.search(wanted);
    const asked = (one) => queries.includes(words(one.heading).join(" "));
    if (results.length) return { results: results.sort((a, b) => asked(b) - asked(a)) };
    const bare = queries.map((query) => query.replace(/\b\d+\b/g, "").trim());
    if (bare.some((query, at) => query && query !== queries[at]))
      return search(engine, bare.join(" ")); // only headings are found by numbers
    const fuzzy = (term) => (term.length > 3 ? 0.25 : 0);
    const near = engine.search(wanted, { fuzzy });
    if (near.length) return { results: near, instead: "No place has exactly these words" };
    const some = engine.search(queries.join(" "), { combineWith: "OR", fuzzy });
    return { results: some, instead: "No place has all of these words" };
  }

  // Marks the words that were found, in the page that the reader goes to.

  function highlight(terms) {
    if (!globalThis.Highlight || !CSS.highlights) return;
    CSS.highlights.delete("found");
    const literal = terms.map((term) => term.replace(/[^\p{L}\p{N}_]/gu, "")).filter(Boolean);
    if (!literal.length) return;
    const word = new RegExp(`(?<![\\p{L}\\p{N}])(?:${literal.join("|")})`, "giu");
    const walker = document.createTreeWalker(find("main"), NodeFilter.SHOW_TEXT);
    const found = new Highlight();
    while (walker.nextNode()) {
      for (const match of walker.currentNode.data.matchAll(word)) {
        const range = new Range();
        range.setStart(walker.currentNode, match.index);
        range.setEnd(walker.currentNode, match.index + match[0].length);
        found.add(range);
      }
    }
    CSS.highlights.set("found", found);
  }

  // Marks what another page's search was for, and takes it out of the address.
  function arrived() {
    const address = new URL(location);
    const terms = address.searchParams.get("find");
    if (!terms) return;
    address.searchParams.delete("find");
    renamed(address);
    highlight(terms.split(" "));
  }

  function start() {
    const box = find(".search");
    const input = find("#search");
    const panel = find("#found");
    const list = find("ol", panel);
    const output = find("output", panel);
    let engine = null;
    arrived();
    if (!globalThis.DecompressionStream) return box.remove();

    function close() {
      panel.hidden = true;
      list.replaceChildren();
      output.value = "";
    }

    function result({ heading, path, file, target, terms }) {
      const link = make("a", {}, make("b", {}, heading));
      if (path) link.append(make("span", {}, path));
      const own = document.getElementById(target) !== null;
      const hash = `#${encodeURIComponent(target)}`;
      link.href = own ? hash : `${file}?find=${encodeURIComponent(terms.join(" "))}${hash}`;
      link.addEventListener("click", (event) => {
        if (isForBrowser(event)) return;
        highlight(own ? terms : []);
        close();
      });
      return make("li", {}, link);
    }

    async function update() {
      const text = input.value.replace(/\s+/g, " ").trim();
      if (!text) {
        highlight([]);
        return close();
      }
      engine ??= load();
      const { results, instead } = search(await engine, text);
      if (text !== input.value.replace(/\s+/g, " ").trim()) return; // typed meanwhile
      panel.hidden = false;
      list.replaceChildren(...results.slice(0, MOST).map(result));
      output.value = told(results, instead, text);
      list.dataset.found = results.length ? "true" : ""; // Enter goes to the first
      if (!results.length) list.append(...chapters());
      panel.scrollTop = 0;
    }

    function told(results, instead, text) {
      const count = results.length;
      const more = count > MOST ? `, the best ${MOST}:` : "";
      if (!count) return `No place has “${text}”. The report's chapters:`;
      if (instead) return `${instead}. The nearest:`;
      return `${count} ${count === 1 ? "place" : "places"}${more}`;
    }

    function chapters() {
      return all(".contents > ol > li > a").map((link) =>
        make("li", {}, make("a", { href: link.getAttribute("href") }, link.lastChild.textContent)),
      );
    }

    function move(event) {
      const links = all("a", list);
      const at = links.indexOf(document.activeElement);
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") {
        if (document.activeElement !== input) input.focus();
        else if (input.value) event.preventDefault();
        input.value = "";
        return update();
      }
      if (event.key === "Enter" && document.activeElement === input)
        return list.dataset.found && links[0]?.click();
      if (!step || !links.length) return;
      event.preventDefault();
      const next = at + step;
      (next < 0 ? input : links[Math.min(next, links.length - 1)]).focus();
    }

    input.addEventListener("input", update);
    input.addEventListener("focus", update);
    box.addEventListener("keydown", move);
    document.addEventListener("pointerdown", (event) => {
      if (!box.contains(event.target)) close();
    });
    box.addEventListener("focusout", ({ relatedTarget }) => {
      if (relatedTarget && !box.contains(relatedTarget)) close();
    });
    document.addEventListener("keydown", (event) => {
      const free = !event.target.closest?.("input, textarea, [contenteditable]");
      if (event.key !== "/" || !free || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      input.focus();
    });
  }

  addEventListener("DOMContentLoaded", start);
})();
