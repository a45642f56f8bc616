// The server's API (docs/api.md).

/** An error in a form that the page can put into words. status 0: the server cannot be reached. */
export class ApiError extends Error {
  constructor(status, { message = "", code = "" } = {}, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, code: code ?? "", retryAfter });
  }
}

export class Api {
  /** key: a function that gives the API key, "" for none. askForKey: asks for one; returns whether one was given. */
  constructor(key, askForKey) {
    Object.assign(this, { key, askForKey });
  }

  async health() {
    return (await this.#send("/health", null, AbortSignal.timeout(4000))).json();
  }

  async models() {
    return (await (await this.#send("/v1/models")).json()).data;
  }

  /** What might come next: {candidates, warnings}. */
  async candidates(body, signal) {
    return (await this.#send("/v1/candidates", body, signal)).json();
  }

  /** [{text, logprob}] for each token of a prompt. */
  async score(body, signal) {
    const wanted = { ...body, echo: true, max_tokens: 0, logprobs: 0 };
    const answer = await (await this.#send("/v1/completions", wanted, signal)).json();
    return tokensOf(answer.choices[0]);
  }

  /**
   * Continuations of a prompt, as they are written. Yields {queue}, {warnings}, and {index, text, tokens, finish}.
   *
   * Raises ApiError, also for a stream that breaks off. Abort the signal to stop the server's work.
   */
  async *complete(body, signal) {
    const response = await this.#send("/v1/completions", { ...body, stream: true, logprobs: 0 }, signal);
    for await (const line of lines(response, signal)) {
      if (line.startsWith(": queue ")) yield { queue: Number(line.slice(8)) };
      else if (line.startsWith(":")) yield { queue: 0 };
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new ApiError(503, event.error);
      if (event.warnings) yield { warnings: event.warnings };
      for (const choice of event.choices) {
        yield { index: choice.index, text: choice.text, tokens: tokensOf(choice), finish: choice.finish_reason };
      }
    }
    throw new ApiError(0, { code: "broken" });
  }

  async #send(path, body = null, signal = null) {
    const headers = this.key() ? { Authorization: `Bearer ${utf8(this.key())}` } : {};
    if (body) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && wellFormed(body), signal });
    } catch (error) {
      throw signal?.aborted && error.name === "AbortError" ? error : new ApiError(0, { code: "offline" });
    }
    if (response.ok) return response;
    if (response.status === 401 && (await this.askForKey())) return this.#send(path, body, signal);
    const answer = await response.json().catch(() => ({}));
    throw new ApiError(response.status, answer.error, Number(response.headers.get("Retry-After")) || 0);
  }
}

/** The body as JSON. Half a surrogate pair is no text; the server would refuse it. */
function wellFormed(body) {
  return JSON.stringify(body, (_, value) => (typeof value === "string" ? value.toWellFormed?.() ?? value : value));
}

/** A header's value in UTF-8. Browsers take one character per byte. */
function utf8(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

function tokensOf({ logprobs }) {
  return logprobs ? logprobs.tokens.map((text, i) => ({ text, logprob: logprobs.token_logprobs[i] })) : [];
}

/** The lines of a response, each when it is complete. */
async function* lines(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts;
    }
  } catch (error) {
    throw signal?.aborted ? error : new ApiError(0, { code: "broken" });
  } finally {
    reader.cancel().catch(() => {});
  }
}
