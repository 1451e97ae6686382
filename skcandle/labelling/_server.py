"""A web server for one person on one machine: the page, its photos, and the session behind it.

Everything that the page shows is in the :class:`LabellingSession`. The server only passes it on,
to those who have the token.
"""

import hmac
import io
import json
import mimetypes
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from functools import lru_cache, partial
from ipaddress import ip_address
from urllib.parse import urlsplit

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .._warnings import warn_user
from ..inspection._thumbnails import thumbnail
from ._labels import NONE, SKIP, UNLABELLED
from ._progress import progress_of
from ._session import LabellingSession

SIZES = {"small": 256, "large": 1280}  # maximum width and height of photos, in pixels
N_CACHED = 1000  # photos kept in memory, of about 10 kB
WEBP_QUALITY = 80
MAX_BODY = 1 << 18  # bytes; enough for several thousand photos
MAX_QUERY = 1000  # characters
MAX_PHOTOS = 2000  # in one answer
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
NO_TOKEN = "Please open the address that the command printed; it contains the token of this page."
mimetypes.add_type("text/javascript", ".js")  # the settings of Windows may say something else


def serve(
    session: LabellingSession,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    model_path: str | os.PathLike = "model.skops",
    title: str = "photos",
    open_browser: bool = True,
    show: Callable[[str], object] = print,
) -> None:
    """Serve the page of a session until the process is interrupted.

    `show` is called with the address, which contains the token. With `open_browser`, other users of
    this machine may see it among the processes.
    """
    if not is_loopback(host):
        warn_user(
            f"The page can be reached from other machines, because host is {host!r}. The "
            "connection is not encrypted: whoever reads the network sees the photos and the token."
        )
    with _listen(host, port) as listening:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(32)
        app = create_app(session, token, host=host, port=port, model_path=model_path, title=title)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{port}/?token={token}"
        show(address)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        # h11 limits the size of headers; the others would be further entrances
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="off", log_level="warning", server_header=False
        )
        uvicorn.Server(config).run(sockets=[listening])


def create_app(
    session: LabellingSession,
    token: str,
    *,
    host: str = "127.0.0.1",
    port: int = 80,
    model_path: str | os.PathLike = "model.skops",
    title: str = "photos",
) -> Starlette:
    """Create the ASGI application; see :func:`serve` for the parameters."""
    actions = Actions(session, model_path, title)
    posts: dict[str, Callable] = {
        do: partial(actions.change, do) for do in ("label", "undo", "redo", "add_class")
    }
    for do in ("photos", "answers", "classes", "save_model"):
        posts[do] = getattr(actions, do)
    return Starlette(
        routes=[
            Route("/photos/{index:int}/{size}", _photo_route(session.images)),
            Route("/version", lambda request: JSONResponse(session.version)),
            *(Route(f"/{do}", _endpoint(act), methods=["POST"]) for do, act in posts.items()),
            Mount("/", StaticFiles(packages=[(__package__, "page")], html=True)),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=Guard(token, host, port))],
        exception_handlers={
            TypeError: lambda request, error: PlainTextResponse(str(error), 400),
            ValueError: lambda request, error: PlainTextResponse(str(error), 400),
            OSError: lambda request, error: PlainTextResponse(str(error), 500),
        },
    )


class Guard:
    """Lets only requests of the page through, and only with the token.

    * The token in the address becomes a cookie, so that it stands neither in the address bar nor
      in links. All ports share cookies, so its name has the port.
    * ``Host`` must name this machine, or a name of another site that resolves to it would do
      (DNS rebinding).
    * ``Origin`` must be the page itself: pages on other ports of this machine share its cookies.
    """

    def __init__(self, token, host, port):
        self.token = token.encode()
        self.host = host
        self.cookie = f"skcandle-{port}"

    async def __call__(self, request, call_next):
        response = self._answer(request) or await call_next(request)
        response.headers.update(HEADERS)
        return response

    def _answer(self, request):
        """Response to a request that does not reach the application, or None."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self._names_this_machine(host):
            return PlainTextResponse("The header Host does not name this machine.", 403)
        if origin != f"http://{host}" and (origin is not None or request.method == "POST"):
            return PlainTextResponse("The request comes from another page.", 403)
        if len(request.url.query) > MAX_QUERY or len(request.url.path) > MAX_QUERY:
            return PlainTextResponse("The address is too long.", 414)
        if self._is_token(request.cookies.get(self.cookie, "")):
            return None
        if request.url.path == "/" and self._is_token(request.query_params.get("token", "")):
            response = RedirectResponse("/", 303)
            response.set_cookie(self.cookie, self.token.decode(), httponly=True, samesite="strict")
            return response
        return PlainTextResponse(NO_TOKEN, 403)

    def _is_token(self, text):
        return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), self.token)

    def _names_this_machine(self, host):
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in ("localhost", self.host):
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self.host)


class Actions:
    """What the page asks for: each method takes decoded JSON and returns what becomes JSON."""

    def __init__(self, session, model_path, title):
        self.session = session
        self.model_path = model_path
        self.title = title

    def photos(self, by, n, class_name=None, image=None, words=None):
        """Photos in the order of :meth:`LabellingSession.next`."""
        if not isinstance(n, int) or not 0 <= n <= MAX_PHOTOS:
            raise ValueError(f"n must be an integer from 0 to {MAX_PHOTOS}.")
        indices = self.session.next(
            n, by, class_name=class_name, image=image, words=words, wait=False
        )
        return self.answers(indices.tolist())

    def change(self, do, on_screen, **arguments):
        """Label photos, undo, redo, or add a class, by the method `do` of the session."""
        self._check(on_screen)
        changed = getattr(self.session, do)(**arguments)
        return self.answers(on_screen) | {"changed": changed}

    def answers(self, on_screen):
        """Labels and answers of the photos on the screen."""
        self._check(on_screen)
        snapshot, answers = self.session.labels_and_answers(on_screen)
        names = [*snapshot.class_names, None]  # None is at -1, without classes
        labels, best = snapshot.codes[on_screen].tolist(), answers.label.tolist()
        rows = zip(on_screen, labels, best, answers.probability.tolist(), strict=True)
        return {
            "version": snapshot.version,
            "class_names": snapshot.class_names,
            "can_undo": snapshot.can_undo,
            "can_redo": snapshot.can_redo,
            "progress": progress_of(snapshot)._asdict(),
            "photos": [
                {
                    "index": index,
                    "name": self.session.names[index],
                    "label": names[label] if label >= 0 else label,
                    "answer": names[answer],
                    "probability": probability,
                }
                for index, label, answer, probability in rows
            ],
        }

    def classes(self):
        """Names of all classes, and how many photos are labelled with and answered as each."""
        snapshot, answers = self.session.labels_and_answers()
        names, labels = snapshot.class_names, snapshot.codes
        labelled, answered = (
            np.bincount(each[each >= 0], minlength=len(names)).tolist()
            for each in (labels, answers.label[labels == UNLABELLED])
        )
        return {
            "title": self.title,
            "n_images": self.session.n_images,
            "n_problems": len(self.session.problems),
            "classes": [
                {"name": name, "n_labelled": n_labelled, "n_answered": n_answered}
                for name, n_labelled, n_answered in zip(names, labelled, answered, strict=True)
            ],
            "n_none": int(np.sum(labels == NONE)),
            "n_skipped": int(np.sum(labels == SKIP)),
            "n_unlabelled": int(np.sum(labels == UNLABELLED)),
        }

    def save_model(self):
        """Write the model file."""
        return {"path": os.fspath(self.session.save_model(self.model_path))}

    def _check(self, on_screen):
        """Raise an error for photos that do not exist, before anything is changed."""
        n_images = self.session.n_images
        if not isinstance(on_screen, list) or len(on_screen) > MAX_PHOTOS:
            raise ValueError(f"on_screen must be a list of at most {MAX_PHOTOS} photos.")
        if not all(type(index) is int and 0 <= index < n_images for index in on_screen):
            raise ValueError(f"Photos are integers from 0 to {n_images - 1}.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"Cannot listen on port {port} of {host!r}: {error.strerror}.") from error


def _photo_route(images):
    """An endpoint for small copies of images, which are kept in memory."""

    @lru_cache(maxsize=N_CACHED)
    def read(index, size):
        file = io.BytesIO()
        thumbnail(images[index], SIZES[size]).save(file, "WEBP", quality=WEBP_QUALITY, method=2)
        return file.getvalue()

    def photo(request):
        try:
            return Response(read(**request.path_params), media_type="image/webp")
        except Exception:  # there is none, or the file was changed after it was encoded
            return PlainTextResponse("This photo cannot be read.", 404)

    return photo


def _endpoint(action):
    """An endpoint for an action, which gets the keys of a JSON object and runs in a thread."""

    async def endpoint(request):
        return JSONResponse(await run_in_threadpool(action, **await _json_object(request)))

    return endpoint


async def _json_object(request):
    """Read a JSON object from the body of a request, at most MAX_BODY bytes of it."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"The request is larger than {MAX_BODY} bytes.")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError("The request must be a JSON object.")
    return content
