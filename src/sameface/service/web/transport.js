// Requests, the key they carry, and their failures.

const KEY = "sameface.key"; // in sessionStorage: it goes with the tab

/** What went wrong, by the code of the service; `offline` and `aborted` are ours. */
export class ApiError extends Error {
  constructor(code, message = "", { status = 0, retryAfter = null } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Return whether a key is kept for this tab. */
export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/** Forget the key. */
export function forgetKey() {
  sessionStorage.removeItem(KEY);
}

/** Return `request` and `upload`, which ask for a key when the service wants one, and try again. */
export function createTransport(askKey) {
  let asking = null; // one question at a time, however many requests were refused

  async function withKey(send) {
    for (;;) {
      const key = sessionStorage.getItem(KEY);
      try {
        return await send(key === null ? {} : { Authorization: `Bearer ${key}` });
      } catch (error) {
        if (error.code !== "unauthorized") throw error;
        if (sessionStorage.getItem(KEY) !== key) continue; // another request has asked meanwhile
        asking ??= askKey(key !== null).finally(() => (asking = null));
        const answer = await asking;
        if (answer === null) throw error;
        sessionStorage.setItem(KEY, answer);
      }
    }
  }

  const request = (path, { headers = {}, blob = false, ...options } = {}) =>
    withKey((key) => fetchAnswer(path, { ...options, headers: { ...headers, ...key } }, blob));

  const upload = (path, body, { progress, signal }) => withKey((key) => sendForm(path, body, key, progress, signal));

  return { request, upload };
}

async function fetchAnswer(path, options, blob) {
  let response;
  try {
    response = await fetch(path, { ...options, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    throw new ApiError(error.name === "AbortError" ? "aborted" : "offline");
  }
  if (!response.ok) throw toError(response.status, await response.text(), response.headers.get("Retry-After"));
  if (response.status === 204) return null;
  return blob ? response.blob() : response.json();
}

/** As `fetchAnswer`, but tells how much of the form has been sent, which `fetch` cannot. */
function sendForm(path, body, headers, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => progress(event.loaded / event.total));
    request.addEventListener("error", () => reject(new ApiError("offline")));
    request.addEventListener("abort", () => reject(new ApiError("aborted")));
    request.addEventListener("load", () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(toError(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    });
    signal.addEventListener("abort", () => request.abort());
    if (signal.aborted) reject(new ApiError("aborted"));
    else request.send(body);
  });
}

function toError(status, text, retryAfter) {
  const fallback = { 401: "unauthorized", 403: "forbidden", 404: "not_found", 413: "too_large", 429: "rate_limited" };
  const { code = fallback[status] ?? "server", message = "" } = readError(text);
  return new ApiError(code, message, { status, retryAfter: retryAfter === null ? null : Number(retryAfter) });
}

/** A proxy in between may answer with a page of its own. */
function readError(text) {
  try {
    return JSON.parse(text).error ?? {};
  } catch {
    return {};
  }
}
