"""What the tests of the page share: a browser, the service, the ways of its users, and pictures."""

from __future__ import annotations

import base64
import io
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from sameface.gallery import Gallery
from sameface.recognizer import Recognizer
from sameface.service.access_file import Access
from sameface.service.app import create_app
from sameface.service.config import ServiceConfig

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TOKEN = "the-start-up-token-of-the-tests"
WAIT = 15_000  # milliseconds; the machine may be busy
EVIL = "<img src=x onerror=alert(1)>"
# What the browser says of an answer that the page expects.
REFUSED = "Failed to load resource: the server responded"
OFFLINE = "Failed to load resource: net::ERR_INTERNET_DISCONNECTED"
SHOTS = Path(__file__).parent.parent / "build" / "page"

expect.set_options(timeout=WAIT)


def find_browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def serve(
    recognizer: Recognizer, gallery: Gallery | None, access: Access | None = None, **choices: object
) -> Iterator[str]:
    """Run the service in a thread, and yield its address."""
    config = ServiceConfig(**choices)  # type: ignore[arg-type]
    app = create_app(recognizer, gallery, config, access=access)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), name="service")
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def join(pictures: Sequence[Path]) -> bytes:
    """Return a JPEG with these pictures side by side."""
    images = [PIL.Image.open(path).convert("RGB") for path in pictures]
    wide = PIL.Image.new("RGB", (sum(image.width for image in images), max(image.height for image in images)))
    for number, image in enumerate(images):
        wide.paste(image, (sum(before.width for before in images[:number]), 0))
    return to_jpeg(wide)


def to_jpeg(image: PIL.Image.Image) -> bytes:
    """Return the bytes of a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()


def write_video(path: Path, pictures: Sequence[PIL.Image.Image], rate: int = 10) -> None:
    """Write pictures as a film, so many a second, that Chromium takes for a camera again and again."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W640 H480 F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for picture in pictures:
            ground = PIL.Image.new("RGB", (640, 480))
            ground.paste(picture.convert("RGB").resize((384, 480)), (128, 0))
            luma, *chroma = (np.asarray(band) for band in ground.convert("YCbCr").split())
            file.write(b"FRAME\n" + luma.tobytes() + b"".join(band[::2, ::2].tobytes() for band in chroma))


def show_to_camera(film: Path) -> list[str]:
    """Return the arguments with which Chromium has a camera that sees a film."""
    return [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]


@contextmanager
def watched(browser: Browser, base: str, *, token: bool = False, **options: object) -> Iterator[BrowserContext]:
    """Yield a browser of its own; at the end nothing may have failed in it, nor been asked elsewhere."""
    still = {"locale": "en-US", "viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce"}
    options = still | options
    context = browser.new_context(base_url=base, **options)  # type: ignore[arg-type]
    faults: list[str] = []
    context.set_default_timeout(WAIT)
    context.on("console", lambda said: faults.append(said.text))
    context.on("weberror", lambda fault: faults.append(str(fault.error)))
    context.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    context.on("request", lambda request: faults.append(request.url))
    try:
        if token:
            log_in(context)
        yield context
    finally:
        context.close()
    expected = (base, "blob:", "data:", REFUSED, OFFLINE)
    assert [fault for fault in faults if not fault.startswith(expected)] == []


def log_in(context: BrowserContext) -> None:
    """Open the address that `sameface serve` prints: it becomes a cookie, and is gone from the address."""
    page = context.new_page()
    page.goto(f"/?token={TOKEN}")
    assert "token" not in page.url
    page.close()


def enroll(gallery: Gallery, recognizer: Recognizer, name: str, *pictures: Path, crops: bool = True) -> None:
    """Enroll without the page."""
    gallery.enroll(name, [recognizer.template(path, keep_crop=crops) for path in pictures])


def shown(page: Page) -> Locator:
    """Return the view that is on the screen."""
    return page.locator("main > section:not([hidden])")


def open_view(page: Page, name: str) -> Locator:
    """Open a view and return it."""
    page.goto(f"/#/{name}")
    view = shown(page)
    expect(view.get_by_role("heading", level=1)).to_be_visible()
    return view


def choose(page: Page, button: str, files: object, inside: Locator | None = None) -> None:
    """Press a button that lets one choose files, and choose them."""
    with page.expect_file_chooser() as chooser:
        (inside or page).get_by_role("button", name=button).first.click()
    chooser.value.set_files(files)  # type: ignore[arg-type]


def compare(page: Page, a: object, b: object) -> Locator:
    """Compare two pictures, and return the verdict."""
    open_view(page, "compare")
    for region, picture in (("First picture", a), ("Second picture", b)):
        choose(page, "Choose a picture", picture, page.get_by_role("region", name=region))
    verdict = page.get_by_role("region", name="Result")
    expect(verdict).to_be_visible()
    return verdict


def file(name: str, data: bytes, kind: str = "image/jpeg") -> dict[str, object]:
    """Return a file as Playwright takes it."""
    return {"name": name, "mimeType": kind, "buffer": data}


def shoot(page: Page, name: str) -> None:
    """Keep a screenshot as build output."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def hand_over(target: Locator, event: str, name: str, data: bytes) -> None:
    """Let a file be dropped or pasted on an element."""
    script = """(element, [event, name, data]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
        const options = { bubbles: true, cancelable: true, dataTransfer: transfer, clipboardData: transfer };
        const kind = event === "paste" ? ClipboardEvent : DragEvent;
        element.dispatchEvent(new kind(event, options));
    }"""
    target.evaluate(script, [event, name, base64.b64encode(data).decode()])
