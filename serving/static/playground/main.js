// The playground: puts form, answers, sources and opt-outs together.
import { Answer } from "./answer.js";
import { fields, fromFragment, toFragment, wire } from "./controls.js";
import { Sources } from "./sources.js";
import { complete, optOut } from "./stream.js";

const find = (name, root = document) => root.querySelector(`[data-${name}]`);
const form = find("form");
const prompt = form.elements.prompt;
const status = find("status");
const stop = find("stop");
const write = find("write");
const compare = find("compare");
const play = document.querySelector(".play");
const lanes = [...document.querySelectorAll("[data-lane]")];
const answers = new Map();
let running = null;

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
find("shortcut").textContent = isMac ? "⌘ ⏎" : "Ctrl ⏎";

const sources = new Sources(find("sources"), { onLeave: ask });
const key = () => document.getElementById("api-key").value.trim();
const percent = (share) => `${Math.round(share * 100)} %`;

function say(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("is-bad", isBad);
}

function showLanes() {
  const both = compare?.checked ?? false;
  lanes.forEach((lane, i) => (lane.hidden = i > 0 && !both));
  find("lanes").classList.toggle("two", both);
}

async function answerIn(lane, asked, signal) {
  const foot = find("foot", lane);
  const summary = find("summary", lane);
  find("blank", lane).hidden = true;
  foot.hidden = true;
  const answer = new Answer(find("answer", lane), {
    onPick: (sentence, isPinned) => sources.pick(sentence, isPinned),
    onToken: (token) => sources.inspect(token),
  });
  answers.set(lane, answer);
  answer.begin(prompt.value);
  lane.classList.add("busy");
  const begun = performance.now();
  let version = null;
  try {
    for await (const chunk of complete({ ...asked, ...fields(lane) }, { key: key(), signal })) {
      version = chunk.datastore_version;
      for (const choice of chunk.choices) answer.add(choice);
    }
  } finally {
    lane.classList.remove("busy");
    answer.finish();
    const n = answer.tokens.length;
    if (n) {
      const seconds = (performance.now() - begun) / 1000;
      find("mass", lane).firstElementChild.style.setProperty("--share", answer.share.toFixed(4));
      const state = version === null ? "" : ` · datastore version ${version}`;
      summary.textContent = `${percent(answer.share)} from the datastore · ${n} tokens, ${(n / seconds).toFixed(0)} a second${state}`;
      foot.hidden = false;
    }
  }
  return answer;
}

async function run() {
  if (!form.reportValidity()) return;
  running?.abort();
  const mine = (running = new AbortController());
  sources.clear();
  stop.hidden = false;
  write.disabled = true;
  say("Writing …");
  history.replaceState(null, "", toFragment(prompt.value, compare?.checked, play));
  const asked = { prompt: prompt.value, ...fields(form) };
  const shown = lanes.filter((lane) => !lane.hidden);
  const results = await Promise.allSettled(shown.map((lane) => answerIn(lane, asked, mine.signal)));
  if (running !== mine) return;
  running = null;
  stop.hidden = true;
  write.disabled = false;
  const failed = results.find((result) => result.status === "rejected" && result.reason.name !== "AbortError");
  if (failed) say(failed.reason.message, true);
  else say(mine.signal.aborted ? "Stopped." : "Done.");
}

function forget() {
  for (const lane of lanes) {
    const before = find("before", lane);
    before.hidden = true;
    before.replaceChildren();
  }
}

// --- opting a document out, and what that changes

const dialog = find("leave");
const yes = find("leave-yes");
const leaveFault = find("leave-fault");
let leaving = null;

function ask(source) {
  leaving = source;
  find("leave-name").textContent = source.title || source.document_id;
  leaveFault.hidden = true;
  dialog.showModal();
}

function told(lane, receipt) {
  const before = find("before", lane);
  const name = `silo-receipt-${receipt.leaf_index ?? "0"}.json`;
  const href = URL.createObjectURL(new Blob([`${JSON.stringify(receipt, null, 2)}\n`], { type: "application/json" }));
  const heading = Object.assign(document.createElement("h3"), { textContent: "Before the opt-out" });
  const link = Object.assign(document.createElement("a"), { href, download: name, textContent: "Download the receipt" });
  const line = document.createElement("p");
  line.className = "receipt";
  line.append(`“${leaving.title || leaving.document_id}” is out, for good. `, link);
  const after = Object.assign(document.createElement("h3"), { textContent: "After" });
  before.replaceChildren(heading, answers.get(lane).copy(), line, after);
  before.hidden = false;
}

yes.addEventListener("click", async () => {
  yes.disabled = true;
  try {
    const receipt = await optOut(leaving.document_id, { key: key() });
    const earlier = new Map(answers);
    const shown = lanes.filter((lane) => !lane.hidden && answers.has(lane));
    shown.forEach((lane) => told(lane, receipt));
    dialog.close();
    await run();
    const turned = shown.map((lane) => answers.get(lane).markTurn(earlier.get(lane).tokens));
    if (status.textContent === "Done.") say(turned.some(Boolean) ? "It is out, and the answer changed." : "It is out. The answer stayed the same: others say this too.");
  } catch (error) {
    leaveFault.textContent = error.message;
    leaveFault.hidden = false;
  } finally {
    yes.disabled = false;
  }
});

// --- wiring

const { prompt: given, isComparing } = fromFragment(location.hash, play);
if (given) prompt.value = given;
if (compare) compare.checked = isComparing;
lanes.forEach(wire);
showLanes();

compare?.addEventListener("change", showLanes);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  forget();
  run();
});
stop.addEventListener("click", () => running?.abort());
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => {
    prompt.value = button.textContent;
    form.requestSubmit();
  });
}
addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  } else if (event.key === "Escape" && !dialog.open) {
    if (running) running.abort();
    else sources.clear();
  }
});
