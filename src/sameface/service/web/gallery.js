// Who is enrolled, read from the service page by page.

const PAGE = 200;

/** Return everybody, by name. */
export async function allPeople(api) {
  const people = [];
  let after = null;
  do {
    const page = await api.people(PAGE, after);
    people.push(...page.people);
    after = page.next;
  } while (after !== null);
  return people;
}

/** Return every face of a person. */
export async function allFaces(api, id) {
  const faces = [];
  let after = null;
  do {
    const page = await api.faces(id, PAGE, after);
    faces.push(...page.faces);
    after = page.next;
  } while (after !== null);
  return faces;
}
