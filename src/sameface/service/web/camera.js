// The camera: one still after the other goes to the service, the next when the last is answered.
import { el } from "./dom.js";
import { drawScaled } from "./picture.js";

const LONGEST = 640;
const PAUSE = 150; // milliseconds between an answer and the next still
const TROUBLE = { NotAllowedError: "camera.refused", NotFoundError: "camera.missing" };

/**
 * Make a camera that shows itself in `frame`.
 *
 * `look(still)` asks the service and answers what it found or null, after which the camera stops; `stopped()` is
 * called at the end.
 */
export function createCamera({ frame, look, stopped }) {
  let stream = null;

  /** Start; every answer goes to `found(answer, canvas)`. Returns null, or the key of what is in the way. */
  async function start(found) {
    if (!navigator.mediaDevices) return "camera.insecure";
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    } catch (error) {
      return TROUBLE[error.name] ?? "camera.broken";
    }
    const video = el("video", { playsinline: true, label: "camera.video" });
    video.muted = true;
    video.srcObject = stream;
    await video.play();
    frame.show(video);
    watch(video, stream, found);
    return null;
  }

  async function watch(video, mine, found) {
    while (stream === mine) {
      const still = takeStill(video);
      const answer = await look(await toFile(still));
      if (stream !== mine) return;
      if (answer === null) return stop();
      found(answer, still);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }

  function stop() {
    if (stream === null) return;
    for (const track of stream.getTracks()) track.stop();
    stream = null;
    stopped();
  }

  return { start, stop };
}

function takeStill(video) {
  const { videoWidth: width, videoHeight: height } = video;
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  return drawScaled(video, width * scale, height * scale);
}

async function toFile(canvas) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
  return new File([blob], "camera.jpg", { type: "image/jpeg" });
}
