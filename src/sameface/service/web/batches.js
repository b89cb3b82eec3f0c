// Enrolments of many pictures, cut so that each request stays within the limits of the service.

const ROOM = 100_000; // bytes for what stands round the pictures in a form

/** Return the items in batches; a picture that is too large for any request is left to the service to refuse. */
export function inBatches(items, { request_pictures: most, request_bytes: limit }) {
  const batches = [];
  let bytes = 0;
  for (const item of items) {
    const last = batches.at(-1);
    if (last === undefined || last.length === most || bytes + item.file.size > limit - ROOM) {
      batches.push([item]);
      bytes = item.file.size;
    } else {
      last.push(item);
      bytes += item.file.size;
    }
  }
  return batches;
}
