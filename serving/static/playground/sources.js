// The panel beside the answer: who is owed a sentence, and what else a token could have been.

/** As the server's pages: never 0 % or 100 % for what is neither. */
function percent(share) {
  if (share > 0 && share < 0.01) return "< 1 %";
  if (share > 0.99 && share < 1) return "> 99 %";
  return `${Math.round(share * 100)} %`;
}

/** An element with text and children; nothing here is ever markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A bar of `share`, as long as it is of `whole`. */
function bar(share, kind, whole = 1) {
  const fill = make("span");
  fill.style.setProperty("--share", (share / Math.max(whole, 1e-9)).toFixed(4));
  const element = make("span", { className: `share-bar ${kind}` }, fill);
  element.ariaHidden = "true";
  return element;
}

/** A link for web addresses alone: a document may name anything as its URL. */
function link(url) {
  try {
    const { protocol, href, host } = new URL(url);
    if (protocol === "https:" || protocol === "http:") return make("a", { href, rel: "noreferrer noopener nofollow", target: "_blank" }, host);
  } catch {
    // no URL
  }
  return "";
}

/** Sources of one document are one: the reader asks whose text it is. */
function byDocument(sources) {
  const found = new Map();
  for (const source of sources) {
    const known = found.get(source.document_id);
    if (known) {
      known.mass += source.mass;
      if (!known.text && source.text) Object.assign(known, { ...source, mass: known.mass });
    } else {
      found.set(source.document_id, { ...source });
    }
  }
  return [...found.values()].sort((a, b) => b.mass - a.mass);
}

export class Sources {
  constructor(root, { onLeave }) {
    this.root = root;
    this.body = root.querySelector("[data-sources-body]");
    this.inspector = root.querySelector("[data-inspect]");
    this.onLeave = onLeave;
    this.blank = [...this.body.childNodes].map((node) => node.cloneNode(true));
    this.pinned = null;
    this.shown = null;
    root.querySelector("[data-sources-close]").addEventListener("click", () => this.clear());
  }

  clear() {
    this.mark(null);
    if (this.pinned) this.pinned.element.ariaPressed = "false";
    this.pinned = null;
    this.root.classList.remove("open");
    this.body.replaceChildren(...this.blank.map((node) => node.cloneNode(true)));
    this.inspector.hidden = true;
  }

  /** Shows a sentence; a pinned one stays until another is pinned. */
  pick(sentence, isPinned) {
    if (isPinned) {
      const again = this.pinned === sentence;
      if (this.pinned) this.pinned.element.ariaPressed = "false";
      this.pinned = again ? null : sentence;
      sentence.element.ariaPressed = String(!again);
    } else if (this.pinned) {
      return;
    }
    this.show(sentence);
  }

  mark(sentence) {
    this.shown?.element.classList.remove("shown");
    this.shown = sentence;
    sentence?.element.classList.add("shown");
  }

  show(sentence) {
    this.mark(sentence);
    this.root.classList.add("open");
    const sources = byDocument(sentence.sources);
    const full = sources.filter((source) => source.title !== undefined || source.removed);
    const rest = sources.filter((source) => !full.includes(source));
    const most = Math.max(sentence.parametric_mass, ...sources.map((source) => source.mass));
    const lines = full.map((source) => this.card(source, most));
    if (rest.length) {
      const mass = rest.reduce((sum, source) => sum + source.mass, 0);
      lines.push(make("li", { className: "source rest" }, make("p", { className: "quiet" }, `${rest.length} more documents, ${percent(mass)} together`)));
    }
    if (sentence.unnamed_mass > 0.005) {
      lines.push(make("li", { className: "source rest" }, make("p", { className: "quiet" }, `${percent(sentence.unnamed_mass)} by places too many to name: the phrase is frequent`)));
    }
    lines.push(
      make("li", { className: "source lm" }, make("p", { className: "source-head" }, make("strong", {}, "The LM itself"), make("span", { className: "source-mass" }, percent(sentence.parametric_mass))), bar(sentence.parametric_mass, "by-lm", most)),
    );
    const whole = make("p", { className: "scale" }, make("span", {}, `LM ${percent(sentence.parametric_mass)}`), bar(1 - sentence.parametric_mass, "by-store from-right"), make("span", {}, `datastore ${percent(1 - sentence.parametric_mass)}`));
    this.body.replaceChildren(make("h2", {}, "Sources"), make("blockquote", { className: "picked" }, sentence.text.trim() || "↵"), whole, make("ol", { className: "source-list" }, ...lines), ...this.read(sentence.read ?? []));
  }

  /** What the LM read before the text. */
  read(passages) {
    if (!passages.length) return [];
    const lines = passages.map((passage) =>
      make("li", { className: "source" }, make("p", { className: "source-head" }, make("strong", {}, passage.removed ? "A document that left since" : passage.title || passage.document_id)), make("p", { className: "source-text" }, passage.text ?? "")),
    );
    return [make("h3", {}, "Read before the text"), make("ol", { className: "source-list" }, ...lines)];
  }

  card(source, most) {
    if (source.removed) {
      return make("li", { className: "source gone" }, make("p", { className: "source-head" }, make("strong", {}, "A document that left since"), make("span", { className: "source-mass" }, percent(source.mass))), bar(source.mass, "by-store", most));
    }
    const leave = make("button", { type: "button", className: "leave-button" }, "Take it out…");
    leave.setAttribute("aria-label", `Take it out… ${source.title || source.document_id}`);
    leave.addEventListener("click", () => this.onLeave(source));
    const facts = make("p", { className: "source-facts" });
    for (const part of [source.owner, source.license, source.source, link(source.url)]) {
      if (part) facts.append(facts.childNodes.length ? " · " : "", part);
    }
    return make(
      "li",
      { className: "source" },
      make("p", { className: "source-head" }, make("strong", {}, source.title || source.document_id), make("span", { className: "source-mass" }, percent(source.mass))),
      bar(source.mass, "by-store", most),
      make("p", { className: "source-text" }, source.text ?? ""),
      facts,
      leave,
    );
  }

  /** What a token was, and what it could have been. */
  inspect(token) {
    if (token.logprob === undefined) return;
    const others = Object.entries(token.top ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 5);
    const rows = others.map(([name, logprob]) =>
      make("li", { className: name === token.name ? "chosen" : "" }, make("code", {}, name.replace(/ /g, "␣").replace(/\n/g, "⏎")), bar(Math.exp(logprob), "by-lm"), make("span", {}, percent(Math.exp(logprob)))),
    );
    const share = token.share === undefined ? "" : `, ${percent(token.share)} of it from the datastore`;
    this.inspector.replaceChildren(make("h3", {}, "This token"), make("p", { className: "quiet" }, `Probability ${percent(Math.exp(token.logprob))}${share}`), make("ol", { className: "others" }, ...rows));
    this.inspector.hidden = false;
  }
}
