// Pictures in the browser: scaled down for the screen, upright; the file itself is what is sent.
import { announce } from "./dom.js";

const LONGEST = 1280; // pixels of a side on the screen
const EXTENSIONS = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic|heif|jp2|ppm)$/i;

/** Return whether a file is meant to be a picture. */
export function isPicture(file) {
  return file.type.startsWith("image/") || EXTENSIONS.test(file.name);
}

/**
 * Return a canvas with the picture, or null if this browser cannot show it (the service may still read it).
 *
 * The canvas remembers the picture's own size as `full`: boxes are counted in its pixels.
 */
export async function drawPicture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = drawScaled(bitmap, bitmap.width * scale, bitmap.height * scale);
  canvas.full = { width: bitmap.width, height: bitmap.height };
  bitmap.close();
  return canvas;
}

/** Return a canvas of a size with a bitmap, video or canvas on it. */
export function drawScaled(source, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/**
 * Return a small square canvas with a face and some of what is round it.
 *
 * `size` is the picture's as the service saw it, in which the box is counted; `canvas` may be smaller, or null.
 */
export function cutFace(canvas, size, box, side = 96) {
  const small = document.createElement("canvas");
  small.width = small.height = 2 * side;
  if (canvas === null) return small;
  const scale = canvas.width / size.width;
  const [left, top, right, bottom] = box.map((edge) => edge * scale);
  const span = 1.35 * Math.max(right - left, bottom - top);
  const [x, y] = [(left + right - span) / 2, (top + bottom - span) / 2];
  const context = small.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, x, y, span, span, 0, 0, small.width, small.height);
  return small;
}

/** Return the number of the largest face. */
export function largestFace(faces) {
  const area = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
  return faces.reduce((best, face, index) => (area(face) > area(faces[best]) ? index : best), 0);
}

/** Return the pictures among pasted or dropped files, and say so if there are none. */
export function onlyPictures(files) {
  const pictures = [...files].filter(isPicture);
  if (pictures.length === 0) announce("intake.none");
  return pictures;
}
