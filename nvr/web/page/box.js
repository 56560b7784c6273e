// Questions to the box. Every answer is JSON; a fault becomes a BoxError with something to do about it.

import { language, t } from "./words.js";

export class BoxError extends Error {
  constructor(message, hint, status) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

let csrf = "";
export const setCsrf = (token) => (csrf = token);

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new BoxError(t("noAnswer"), "", 0);
  }
  if (response.status === 401 && !path.startsWith("/api/login")) {
    location.assign("/login");
    throw new BoxError("", "", 401);
  }
  return response;
}

async function answer(response) {
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new BoxError(content.error ?? t("failed"), content.hint ?? "", response.status);
  return content;
}

export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(parameters).toString();
  return answer(await ask(query ? `${path}?${query}` : path, { signal }));
}

export async function send(method, path, content = {}) {
  return answer(
    await ask(path, {
      method,
      headers: { "content-type": "application/json", "x-csrf-token": csrf, "accept-language": language() },
      body: JSON.stringify(content),
    }),
  );
}

/** `size` bytes of a file on the box, from `offset` on. */
export async function bytes(path, offset, size, signal) {
  const response = await ask(path, { headers: { range: `bytes=${offset}-${offset + size - 1}` }, signal });
  if (!response.ok) await answer(response);
  return new Uint8Array(await response.arrayBuffer());
}
