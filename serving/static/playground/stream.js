// The API as the page uses it: completions as they are made, and opt-outs. Knows nothing of the page.

/** What a server says is wrong, in its words where it has some. */
async function fault(response) {
  const problem = await response.json().catch(() => null);
  const detail = problem?.detail ?? problem?.error?.message ?? `the server answered ${response.status}`;
  const access = response.status === 401 || response.status === 403 ? " Give an API key under Settings." : "";
  return new Error(detail + access);
}

async function post(path, body, { key, signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!response.ok) throw await fault(response);
  return response;
}

/** The data of each server-sent event in `stream`. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The chunks of a completion. Throws with the server's words. */
export async function* complete(body, options) {
  const asked = { ...body, stream: true, attributions: true, logprobs: 5 };
  const response = await post("/v1/completions", asked, options);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.detail ?? chunk.error.message);
    yield chunk;
  }
}

/** Takes a document out; the receipt. */
export async function optOut(document, options) {
  return (await post("/v1/optouts", { document }, options)).json();
}
