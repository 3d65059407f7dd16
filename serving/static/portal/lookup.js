// Looks a text up by the first digits of its SHA-256. The text does not leave the browser.
const PREFIX_DIGITS = 5;

/** As `silo.documents.text_digest`: SHA-256 of the text in UTF-8, composed, with `\n` as line ends. */
export async function textDigest(text) {
  const normalized = text.replace(/\r\n?/g, "\n").normalize("NFC");
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(normalized));
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function told(parent, tag, text, href) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (href) element.href = href;
  parent.append(element);
  return element;
}

async function lookUp(text, result) {
  result.replaceChildren();
  if (!text.trim()) return told(result, "p", "Paste a text or choose a file first.");
  const digest = await textDigest(text);
  const prefix = digest.slice(0, PREFIX_DIGITS);
  const response = await fetch(`/owners/digests.json?prefix=${prefix}`);
  if (!response.ok) return told(result, "p", `The server did not answer (${response.status}). Try again.`);
  const { digests } = await response.json();
  const own = digests.filter((one) => one.digest === digest);
  if (!own.length) {
    told(result, "p", `It is not here as a whole. Only “${prefix}” was sent; ${digests.length} fingerprints begin so, and none is yours.`);
    return told(result, "p", "A part of it, or a changed copy, could still be: that cannot be told from a fingerprint.");
  }
  for (const one of own) {
    const line = told(result, "p", one.state === "live" || one.state === "hidden" ? "It is here, as a whole: " : "It was here, and is out: ");
    told(line, "a", one.document, `/owners/document?id=${encodeURIComponent(one.document)}`);
  }
  return null;
}

const box = document.querySelector("[data-private]");
if (box && globalThis.crypto?.subtle) {
  box.hidden = false;
  const text = box.querySelector("#private-text");
  const result = box.querySelector("[data-private-result]");
  box.querySelector("#private-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) text.value = await file.text();
  });
  box.querySelector("[data-private-ask]").addEventListener("click", () => {
    lookUp(text.value, result).catch(() => told(result, "p", "The server could not be reached. Try again."));
  });
}
