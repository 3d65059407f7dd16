// An answer on the page: tokens as they come, shaded by the datastore's share, and gathered into sentences once their
// sources are known. Everything is put in as text, never as markup.

/** Characters as the API counts them: code points. */
const characters = (text) => Array.from(text);

export class Answer {
  /** `onPick(sentence, isPinned)` and `onToken(token)` tell what the reader points at. */
  constructor(root, { onPick, onToken }) {
    this.root = root;
    this.tokens = [];
    this.sentences = [];
    this.n = 0;
    this.hasEnded = false;
    this.onPick = onPick;
    this.onToken = onToken;
    this.text = document.createElement("div");
    this.text.className = "answer-text";
    this.caret = Object.assign(document.createElement("span"), { className: "caret" });
    this.caret.ariaHidden = "true";
    root.replaceChildren(this.text);
    this.listen();
  }

  begin(prompt) {
    const given = Object.assign(document.createElement("span"), { className: "given", textContent: prompt });
    this.text.append(given, this.caret);
  }

  /** Takes a choice of one chunk of the stream. */
  add(choice) {
    const signs = characters(choice.text);
    const start = this.n;
    this.n += signs.length;
    const marks = choice.logprobs;
    const offsets = marks?.text_offset?.length ? marks.text_offset : [start];
    offsets.forEach((offset, i) => {
      const from = i ? offset - start : 0;
      const to = i + 1 < offsets.length ? offsets[i + 1] - start : signs.length;
      this.put(signs.slice(from, to).join(""), start + from, choice, i);
    });
    for (const annotation of choice.annotations ?? []) this.gather(annotation);
    for (const read of choice.context_sources ?? []) {
      for (const sentence of this.sentences) {
        if (read.start_index < sentence.end_index && sentence.start_index < read.end_index) (sentence.read ??= []).push(read);
      }
    }
  }

  put(text, start, choice, i) {
    const token = {
      text,
      start,
      share: choice.datastore_mass?.[i],
      logprob: choice.logprobs?.token_logprobs?.[i],
      top: choice.logprobs?.top_logprobs?.[i],
      name: choice.logprobs?.tokens?.[i] ?? text,
    };
    if (token.logprob !== undefined) this.tokens.push(token);
    if (!text) return;
    // Line after empty line says nothing that a sign does not say in less space.
    const isFeed = /^\s*\n\s*$/.test(text) && this.hasEnded;
    this.hasEnded = /\n\s*$/.test(text);
    token.span = Object.assign(document.createElement("span"), { className: isFeed ? "token feed" : "token", textContent: isFeed ? "↵" : text });
    token.span.token = token;
    this.shade(token);
    this.text.insertBefore(token.span, this.caret);
  }

  shade(token) {
    if (token.share !== undefined) token.span?.style.setProperty("--share", token.share.toFixed(3));
  }

  /** Makes the tokens of an annotation a sentence that can be pointed at. */
  gather(annotation) {
    const inside = [...this.text.children].filter(
      (span) => span.token && span.token.start >= annotation.start_index && span.token.start < annotation.end_index,
    );
    if (!inside.length) return;
    const element = document.createElement("span");
    element.className = "sentence";
    element.role = "button";
    element.tabIndex = this.sentences.length ? -1 : 0;
    element.ariaPressed = "false";
    const sentence = { ...annotation, element, tokens: inside.map((span) => span.token), text: inside.map((span) => span.token.text).join("") };
    element.sentence = sentence;
    inside[0].before(element);
    element.append(...inside);
    for (const token of sentence.tokens) {
      token.share ??= 1 - annotation.parametric_mass;
      this.shade(token);
    }
    this.sentences.push(sentence);
  }

  finish() {
    this.caret.remove();
  }

  get share() {
    const known = this.tokens.filter((token) => token.share !== undefined);
    return known.reduce((sum, token) => sum + token.share, 0) / Math.max(1, known.length);
  }

  /** A copy that can only be read, for "before". */
  copy() {
    const copied = this.text.cloneNode(true);
    for (const element of copied.querySelectorAll(".sentence")) {
      for (const name of ["role", "tabindex", "aria-pressed"]) element.removeAttribute(name);
      element.className = "sentence-was";
    }
    copied.querySelectorAll(".caret, .turn").forEach((element) => element.remove());
    return copied;
  }

  /** Marks where this answer leaves an earlier one, if it does. */
  markTurn(earlier) {
    const turn = this.tokens.findIndex((token, i) => token.name !== earlier[i]?.name);
    const first = turn < 0 ? undefined : this.tokens.slice(turn).find((token) => token.span);
    if (!first) return false;
    const mark = Object.assign(document.createElement("span"), { className: "turn", textContent: "differs from here" });
    first.span.before(mark);
    return true;
  }

  listen() {
    const near = (event, kind) => event.target.closest?.(kind);
    this.text.addEventListener("pointerover", (event) => {
      const token = near(event, ".token")?.token;
      if (token) this.onToken(token);
      const sentence = near(event, ".sentence")?.sentence;
      if (sentence) this.onPick(sentence, false);
    });
    this.text.addEventListener("focusin", (event) => {
      const sentence = near(event, ".sentence")?.sentence;
      if (sentence) this.onPick(sentence, false);
    });
    this.text.addEventListener("click", (event) => {
      const sentence = near(event, ".sentence")?.sentence;
      if (sentence) this.onPick(sentence, true);
    });
    this.text.addEventListener("keydown", (event) => this.walk(event, near(event, ".sentence")?.sentence));
  }

  walk(event, here) {
    if (!here || event.altKey || event.ctrlKey || event.metaKey) return;
    const at = this.sentences.indexOf(here);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: this.sentences.length - 1 }[event.key];
    if (to !== undefined) {
      const next = this.sentences[Math.min(Math.max(to, 0), this.sentences.length - 1)];
      here.element.tabIndex = -1;
      next.element.tabIndex = 0;
      next.element.focus();
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const spoken = here.tokens;
      here.at = Math.min(Math.max((here.at ?? (event.key === "ArrowDown" ? -1 : spoken.length)) + (event.key === "ArrowDown" ? 1 : -1), 0), spoken.length - 1);
      this.onToken(spoken[here.at]);
    } else if (event.key === "Enter" || event.key === " ") {
      this.onPick(here, true);
    } else {
      return;
    }
    event.preventDefault();
  }
}
