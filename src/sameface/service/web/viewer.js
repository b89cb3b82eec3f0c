// The whole picture that a face is from.
import { closing, openDialog } from "./dialog.js";
import { createFrame } from "./frame.js";
import { drawPicture } from "./picture.js";

/** Show a picture with one face outlined. */
export async function showPicture(file, name, box) {
  const frame = createFrame();
  const canvas = await drawPicture(file);
  const dialog = openDialog({ title: "board.picture", args: { name }, body: [frame.element, closing(() => dialog.close())], kind: "wide" });
  frame.show(canvas, "slot.alt", { name });
  if (canvas !== null) frame.outline(canvas.full, [{ box }], { mark: () => ({ kind: "chosen" }) });
  await dialog.closed;
}
