// The service, as functions. Every failure is an ApiError with the code that the service gave.
import { createTransport } from "./transport.js";

/** Return the calls of the service; `askKey(refused)` must answer a key or null. */
export function createApi(askKey) {
  const { request, upload } = createTransport(askKey);
  const json = (method, path, body) =>
    request(path, { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  const person = (id) => `/v1/people/${encodeURIComponent(id)}`;
  const face = (id, number) => `${person(id)}/faces/${encodeURIComponent(number)}`;

  return {
    model: () => request("/v1/model"),
    health: () => request("/health"),
    ready: () => request("/ready"),
    detect: (picture, signal) => request("/v1/detect", { method: "POST", body: form({ picture }), signal }),
    embed: (picture) => request("/v1/embed", { method: "POST", body: form({ picture }) }),
    verify: (fields, signal) => request("/v1/verify", { method: "POST", body: form(fields), signal }),
    identify: (fields, signal) => request("/v1/identify", { method: "POST", body: form(fields), signal }),
    beginChallenge: () => request("/v1/challenge", { method: "POST" }),
    showChallenge: (id, picture, signal) =>
      request(`/v1/challenge/${encodeURIComponent(id)}`, { method: "POST", body: form({ picture }), signal }),

    people: (limit, after) => request(`/v1/people?${query({ limit, after })}`),
    person: (id) => request(person(id)),
    enroll: (name, items, consent) => request("/v1/people", { method: "POST", body: enrolment(items, { name, consent }) }),
    addFaces: (id, items, consent) => request(`${person(id)}/faces`, { method: "POST", body: enrolment(items, { consent }) }),
    rename: (id, name) => json("PATCH", person(id), { name }),
    noteConsent: (id, consent) => json("PATCH", person(id), { consent }),
    merge: (id, into) => json("POST", `${person(id)}/merge`, { into: Number(into) }),
    forget: (id) => request(person(id), { method: "DELETE" }),
    faces: (id, limit, after) => request(`${person(id)}/faces?${query({ limit, after })}`),
    forgetFace: (id, number) => request(face(id, number), { method: "DELETE" }),
    crop: (id, number) => request(`${face(id, number)}/crop`, { blob: true }),

    cluster: (pictures, far, options) => upload("/v1/cluster", form({ pictures, far }), options),
    job: (id) => request(`/v1/jobs/${encodeURIComponent(id)}`),
    forgetJob: (id) => request(`/v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" }),
  };
}

/** Pictures of one person, each with the number of the face in it. */
function enrolment(items, fields) {
  const faces = JSON.stringify(items.map((item) => item.face));
  return form({ ...fields, pictures: items.map((item) => item.file), faces });
}

/** A form; lists become repeated fields, and what is null or undefined is left out. */
function form(fields) {
  const data = new FormData();
  for (const [name, value] of present(fields)) {
    for (const part of [value].flat()) data.append(name, part);
  }
  return data;
}

function query(fields) {
  return new URLSearchParams(present(fields)).toString();
}

function present(fields) {
  return Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
}
