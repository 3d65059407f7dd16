// From the form to the request and back: each control names the path of the field that it sets.

function put(body, path, value) {
  const names = path.split(".");
  const last = names.pop();
  let at = body;
  for (const name of names) at = at[name] ??= {};
  at[last] = value;
}

function valueOf(input) {
  if (input.disabled) return JSON.parse(input.dataset.off);
  if (input.dataset.kind === "json") return JSON.parse(input.value);
  if (input.dataset.kind === "text") return input.value;
  return input.value === "" ? undefined : Number(input.value);
}

/** The paths of fields that a part which is on decides itself. */
function decided(root) {
  return [...root.querySelectorAll("[data-decides]:checked")].flatMap((toggle) => toggle.dataset.decides.split(" "));
}

/** The fields of the request that the controls in `roots` set. */
export function fields(...roots) {
  const body = {};
  for (const root of roots) {
    const left = decided(root);
    for (const input of root.querySelectorAll("[data-path]")) {
      if (left.includes(input.dataset.path)) continue;
      const value = valueOf(input);
      if (value !== undefined) put(body, input.dataset.path, value);
    }
  }
  return body;
}

function show(input) {
  const output = input.parentElement.querySelector("output");
  const share = `${Math.round(Number(input.value) * 100)} %`;
  if (output) output.value = input.matches(".is-decided *") ? "by gate" : input.disabled ? "off" : share;
}

function turn(lane, toggle) {
  const input = lane.querySelector(`#${CSS.escape(toggle.dataset.switch)}`);
  input.disabled = !toggle.checked;
  show(input);
}

/** Marks the controls whose fields are decided by a part that is on. */
function mark(lane) {
  const left = decided(lane);
  for (const input of lane.querySelectorAll("[data-component] [data-path]")) {
    const isDecided = left.includes(input.dataset.path);
    input.closest(".setting").classList.toggle("is-decided", isDecided);
    const toggle = lane.querySelector(`[data-switch="${CSS.escape(input.id)}"]`);
    toggle.disabled = isDecided;
    input.disabled = isDecided || !toggle.checked;
    show(input);
  }
}

/** Shares sum to one at most: the others give way to the one that was moved. */
function makeRoom(lane, moved) {
  let rest = 1 - Number(moved.value);
  for (const input of lane.querySelectorAll('input[type="range"]:enabled')) {
    if (input === moved) continue;
    if (Number(input.value) > rest) input.value = Math.floor(rest * 20 + 1e-9) / 20;
    rest -= Number(input.value);
    show(input);
  }
}

/** What takes part in the answer of `lane`, in words. */
function title(lane) {
  const on = [...lane.querySelectorAll("[data-switch]:checked")].map((toggle) => toggle.nextElementSibling.textContent.toLowerCase());
  return on.length ? `LM + ${on.join(", ")}` : "The LM alone";
}

/** Keeps switches, shares and the title of `lane` true to each other. */
export function wire(lane) {
  const tell = () => (lane.querySelector("[data-lane-title]").textContent = title(lane));
  for (const toggle of lane.querySelectorAll("[data-switch]")) {
    toggle.addEventListener("change", () => (turn(lane, toggle), mark(lane), tell()));
    turn(lane, toggle);
  }
  mark(lane);
  for (const input of lane.querySelectorAll('input[type="range"]')) {
    input.addEventListener("input", () => (makeRoom(lane, input), show(input)));
    if (!input.disabled) makeRoom(lane, input);
    show(input);
  }
  tell();
}

/** The state of the whole form as the fragment of a link, which a browser keeps to itself. */
export function toFragment(prompt, isComparing, root) {
  const state = new URLSearchParams({ prompt });
  if (isComparing) state.set("compare", "1");
  for (const input of root.querySelectorAll("[data-path]")) {
    if (input.disabled) state.set(input.id, "off");
    else if (input.value !== input.defaultValue || input.closest("[data-lane='b'] [data-component]")) state.set(input.id, input.value);
  }
  return `#${state}`;
}

/** Sets the form as a link says; the prompt, and whether two are compared. */
export function fromFragment(fragment, root) {
  const state = new URLSearchParams(fragment.replace(/^#/, ""));
  for (const input of root.querySelectorAll("[data-path]")) {
    const value = state.get(input.id);
    if (value === null) continue;
    const toggle = root.querySelector(`[data-switch="${CSS.escape(input.id)}"]`);
    if (toggle) toggle.checked = value !== "off";
    if (value !== "off" && input.type !== "hidden") input.value = value;
  }
  return { prompt: state.get("prompt") ?? "", isComparing: state.has("compare") };
}
