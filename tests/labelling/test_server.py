"""The server of the page: what it answers, and whom it refuses."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from queue import Queue

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from skcandle.labelling import _server as server
from skcandle.labelling import _session

TOKEN = "the-token"
HOST = "127.0.0.1:8000"
ORIGIN = {"Origin": f"http://{HOST}"}
ACTIONS = ["photos", "answers", "label", "undo", "redo", "classes", "add_class", "save_model"]
ADDRESSES = ["/", "/script.js", "/style.css", "/version", "/photos/0/small"]
PAGE = {
    "index.html": "text/html",
    "style.css": "text/css",
    "script.js": "text/javascript",
    "chooser.js": "text/javascript",
    "curve.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
HOSTILE = "<img src=x onerror=alert(1)>.png"  # the last photo


def make_client(session, host="127.0.0.1", **headers):
    app = server.create_app(session, TOKEN, host=host, port=8000)
    return TestClient(app, base_url=f"http://{HOST}", headers=headers, follow_redirects=False)


@pytest.fixture
def stranger(session):
    """A client without the token."""
    return make_client(session)


@pytest.fixture
def page(session):
    """A client that sends what the page would send."""
    client = make_client(session, **ORIGIN)
    client.get("/", params={"token": TOKEN})
    return client


def label(client, photos, answer, **other):
    content = {"indices": photos, "answer": answer, "shown": None, "order": "help", "on_screen": []}
    # not with json=, which cannot send the half of a surrogate pair
    return client.post("/label", content=json.dumps(content | other))


# What the page asks for


def test_the_page_and_its_files_are_served_with_their_types(page):
    for name, kind in PAGE.items():
        response = page.get("/" if name == "index.html" else f"/{name}")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kind)
        assert response.content == files("skcandle.labelling").joinpath("page", name).read_bytes()


def test_photos_come_in_the_order_of_the_session(page, session):
    response = page.post("/photos", json={"by": "words", "n": 4, "words": "green"})
    indices = [photo["index"] for photo in response.json()["photos"]]
    assert indices == list(session.next(4, "words", words="green"))


def test_a_photo_has_its_name_label_and_answer(page, session):
    label(page, [0], "blue")
    first, second = page.post("/answers", json={"on_screen": [0, 1]}).json()["photos"]
    answer = session.answer([0, 1])
    names = session.class_names
    assert first == {
        "index": 0,
        "name": "00.png",
        "label": "blue",
        "answer": names[answer.label[0]],
        "probability": pytest.approx(float(answer.probability[0])),
    }
    assert (second["label"], second["answer"]) == (server.UNLABELLED, names[answer.label[1]])


def test_a_label_is_answered_with_the_new_answers_on_the_screen(page, session):
    before = page.post("/answers", json={"on_screen": [2]}).json()
    after = label(page, [5, 8], "blue", on_screen=[2]).json()
    assert before["photos"][0]["answer"] in ("red", "green")
    assert after["photos"][0]["answer"] == "blue"
    assert after["version"] > before["version"]
    assert [session.class_names[k] for k in session.labels[[5, 8]]] == ["blue", "blue"]


@pytest.mark.parametrize("code", [server.NONE, server.SKIP])
def test_none_of_these_and_skip_are_labels(page, session, code):
    assert label(page, [3], code).status_code == 200
    assert session.labels[3] == code


def test_each_photo_may_have_its_own_label_and_all_are_undone_at_once(page, session):
    assert label(page, [0, 1, 2], ["green", "red", server.NONE]).is_success
    assert session.labels[:3].tolist() == [1, 0, server.NONE]
    assert label(page, [3, 4], ["green"]).status_code == 400
    assert page.post("/undo", json={"on_screen": []}).json()["changed"] == [0, 1, 2]
    assert set(session.labels) == {server.UNLABELLED}


def test_a_class_that_another_window_removes_meanwhile_does_not_fail(page, session, monkeypatch):
    session.label([0], "teal")
    session.label([1], "teal")
    answers_of = _session.answers_of

    def removes_the_class(*args):
        session.label([0, 1], server.UNLABELLED)
        return answers_of(*args)

    monkeypatch.setattr(_session, "answers_of", removes_the_class)
    photos = page.post("/answers", json={"on_screen": [0, 1]}).json()["photos"]
    assert [photo["label"] for photo in photos] == ["teal", "teal"]  # as it was before


def test_undo_and_redo_name_the_photos_that_changed(page):
    label(page, [1, 2], "red")
    undone = page.post("/undo", json={"on_screen": [1]}).json()
    assert sorted(undone["changed"]) == [1, 2]
    assert undone["photos"][0]["label"] == server.UNLABELLED
    assert (undone["can_undo"], undone["can_redo"]) == (False, True)
    redone = page.post("/redo", json={"on_screen": [1]}).json()
    assert redone["photos"][0]["label"] == "red"
    assert page.post("/redo", json={"on_screen": []}).json()["changed"] is None


def test_classes_are_counted_by_labels_and_by_answers_for_the_rest(page, session):
    label(page, [0, 3], "red")
    label(page, [2], server.NONE)
    content = page.post("/classes", json={}).json()
    rest = np.flatnonzero(session.labels == server.UNLABELLED)
    answered = [int(np.sum(session.answers.label[rest] == k)) for k in range(2)]
    assert content["classes"] == [
        {"name": "red", "n_labelled": 2, "n_answered": answered[0]},
        {"name": "green", "n_labelled": 0, "n_answered": answered[1]},
    ]
    assert (content["n_none"], content["n_skipped"], content["n_unlabelled"]) == (1, 0, 9)


def test_a_class_is_added_without_a_photo(page, session):
    assert page.post("/add_class", json={"name": "blue", "on_screen": []}).is_success
    assert session.class_names == ["red", "green", "blue"]


def test_two_windows_see_the_same(page, session):
    other = make_client(session, **ORIGIN)
    other.get("/", params={"token": TOKEN})
    version = other.get("/version").json()
    label(page, [4], "green")
    assert other.get("/version").json() > version
    assert other.post("/answers", json={"on_screen": [4]}).json()["photos"][0]["label"] == "green"


def test_without_a_class_there_is_no_answer(make_session):
    client = make_client(make_session(classes=()), **ORIGIN)
    client.get("/", params={"token": TOKEN})
    photo = client.post("/photos", json={"by": "help", "n": 1}).json()["photos"][0]
    assert (photo["answer"], photo["probability"]) == (None, 0.0)
    assert client.post("/classes", json={}).json()["classes"] == []


def test_the_button_writes_the_model_file(session, monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(session, "save_model", lambda path: written.append(path) or path)
    app = server.create_app(session, TOKEN, port=8000, model_path=tmp_path / "birds.skops")
    client = TestClient(app, base_url=f"http://{HOST}", headers=ORIGIN)
    client.get("/", params={"token": TOKEN})
    assert client.post("/save_model", json={}).json() == {"path": str(tmp_path / "birds.skops")}
    assert written == [tmp_path / "birds.skops"]


def test_an_error_of_the_session_reaches_the_page_as_its_message(page, session):
    response = label(page, [0], "RED")
    assert (response.status_code, "red" in response.text) == (400, True)
    assert session.labels[0] == server.UNLABELLED


def test_a_full_disk_reaches_the_page_as_its_message(page, session, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("Nothing was stored, because the disk is full.")

    monkeypatch.setattr(session, "label", full)
    response = label(page, [0], "red")
    assert (response.status_code, response.text) == (
        500,
        "Nothing was stored, because the disk is full.",
    )


# Photos


@pytest.mark.parametrize("size", server.SIZES)
def test_photos_are_made_small(page, size, tmp_path):
    response = page.get(f"/photos/0/{size}")
    (tmp_path / "small.webp").write_bytes(response.content)
    with Image.open(tmp_path / "small.webp") as small:
        assert small.format == "WEBP"
        assert max(small.size) == min(server.SIZES[size], 600)


def test_a_photo_is_read_once(page, session, folder):
    first = page.get("/photos/0/small").content
    (folder / "00.png").unlink()
    assert page.get("/photos/0/small").content == first


def test_a_photo_that_could_not_be_read_once_is_read_again(page, folder):
    (folder / "00.png").rename(folder / "away")
    assert page.get("/photos/0/small").status_code == 404
    (folder / "away").rename(folder / "00.png")
    assert page.get("/photos/0/small").status_code == 200


def test_a_photo_that_is_gone_is_not_found(page, folder):
    (folder / "00.png").unlink()
    assert page.get("/photos/0/small").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/photos/12/small",
        "/photos/-1/small",
        "/photos/0/huge",
        "/photos/00.png/small",
        "/photos/..%2F..%2Fetc%2Fpasswd/small",
        "/photos/0/..%2F..%2F00.png",
        "/00.png",
        "/..%2F_server.py",
        "/page/../_server.py",
    ],
)
def test_nothing_is_found_by_path(page, path):
    assert page.get(path).status_code == 404


# The token


@pytest.mark.parametrize("path", ADDRESSES)
def test_nothing_is_shown_without_the_token(stranger, path):
    response = stranger.get(path)
    assert (response.status_code, response.text) == (403, server.NO_TOKEN)


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_without_the_token(stranger, session, action):
    version = session.version
    assert stranger.post(f"/{action}", json={}, headers=ORIGIN).status_code == 403
    assert session.version == version


def test_the_list_of_actions_above_is_complete(session):
    routes = server.create_app(session, TOKEN).routes
    assert {each.path[1:] for each in routes if "POST" in getattr(each, "methods", ())} == set(
        ACTIONS
    )


@pytest.mark.parametrize("token", ["", "the-toke", "the-token2", "the-tokén", "x" * 900])
def test_another_token_is_refused(stranger, token):
    assert stranger.get("/", params={"token": token}).status_code == 403
    cookie = f"skcandle-8000={token}".encode()
    assert stranger.get("/", headers={b"Cookie": cookie}).status_code == 403


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(stranger):
    response = stranger.get("/", params={"token": TOKEN})
    assert (response.status_code, response.headers["location"]) == (303, "/")
    name, *attributes = response.headers["set-cookie"].lower().split("; ")
    assert name == "skcandle-8000=the-token"
    assert {"httponly", "samesite=strict", "path=/"} <= set(attributes)
    assert stranger.get("/").status_code == 200


def test_only_the_page_itself_takes_the_token_from_the_address(stranger):
    assert stranger.get("/version", params={"token": TOKEN}).status_code == 403


def test_pages_on_two_ports_keep_their_cookies_apart(session):
    first, second = (server.create_app(session, f"t{port}", port=port) for port in (1, 2))
    client = TestClient(first, base_url=f"http://{HOST}")
    client.get("/", params={"token": "t1"})
    cookies = client.cookies
    client = TestClient(second, base_url=f"http://{HOST}", cookies=cookies)
    client.get("/", params={"token": "t2"})
    assert dict(client.cookies) == {"skcandle-1": "t1", "skcandle-2": "t2"}


# Host and Origin


@pytest.mark.parametrize("host", [HOST, "localhost:8000", "localhost", "[::1]:8000", "127.0.0.2"])
def test_this_machine_may_be_named_in_several_ways(page, host):
    assert page.get("/version", headers={"Host": host, "Origin": f"http://{host}"}).is_success


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "192.168.1.5:8000", "[::1", ""],
)
def test_a_name_that_another_site_gave_this_machine_is_refused(page, host):
    response = page.get("/version", headers={"Host": host, "Origin": f"http://{host}"})
    assert (response.status_code, "Host" in response.text) == (403, True)


@pytest.mark.parametrize("host", ["192.168.1.5:8000", "[fe80::1]:8000", HOST])
def test_on_all_addresses_the_address_of_the_machine_may_be_used(session, host):
    client = make_client(session, host="0.0.0.0")
    assert client.get("/version", headers={"Host": host}).text == server.NO_TOKEN
    client.get("/", params={"token": TOKEN})
    assert client.get("/version", headers={"Host": host}).is_success


def test_on_all_addresses_names_are_refused_still(session):
    client = make_client(session, host="0.0.0.0")
    assert "Host" in client.get("/version", headers={"Host": "evil.example"}).text


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9000", f"https://{HOST}"]
)
def test_requests_of_other_pages_are_refused(page, session, origin):
    version = session.version
    content = {"name": "blue", "on_screen": []}
    assert page.post("/add_class", json=content, headers={"Origin": origin}).status_code == 403
    assert page.get("/version", headers={"Origin": origin}).status_code == 403
    assert session.version == version


def test_an_action_without_an_origin_is_refused(stranger, session):
    stranger.get("/", params={"token": TOKEN})
    assert stranger.get("/version").is_success
    assert stranger.post("/add_class", json={"name": "blue", "on_screen": []}).status_code == 403


# Limits


def test_a_large_body_is_refused(page):
    body = b'{"on_screen": [' + b" " * server.MAX_BODY + b"]}"
    assert page.post("/answers", content=body).status_code == 413


def test_a_large_body_without_a_length_is_refused(page):
    parts = iter([b'{"on_screen": ['] + [b" " * 1000] * (server.MAX_BODY // 1000 + 1))
    assert page.post("/answers", content=parts).status_code == 413


def test_a_long_address_is_refused(page):
    assert page.get("/version", params={"x": "y" * server.MAX_QUERY}).status_code == 414
    assert page.get("/" + "y" * (server.MAX_QUERY + 1)).status_code == 414


def test_too_many_photos_at_once_are_refused(page):
    n = server.MAX_PHOTOS + 1
    assert page.post("/photos", json={"by": "help", "n": n}).status_code == 400
    assert page.post("/answers", json={"on_screen": [0] * n}).status_code == 400


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 100_000, b'{"on_screen": [], "other": 1}']
)
def test_what_is_not_the_expected_object_is_refused(page, body):
    assert page.post("/answers", content=body).status_code == 400


@pytest.mark.parametrize("index", [-1, 12, 10**30, 0.0, True, "0", None, [0]])
def test_an_index_that_is_not_of_a_photo_is_refused(page, session, index):
    assert label(page, [index], "red").status_code == 400
    assert label(page, [0], "red", on_screen=[index]).status_code == 400
    assert page.post("/answers", json={"on_screen": [index]}).status_code == 400
    if index is not None:
        content = {"by": "image", "n": 1, "image": index}
        assert page.post("/photos", json=content).status_code == 400
    assert set(session.labels) == {server.UNLABELLED}


@pytest.mark.parametrize("name", ["", " ", "x" * 300, "\ud800", "a\nb", 1, 0, -4, None, [["red"]]])
def test_what_is_not_the_name_of_a_class_is_refused(page, session, name):
    assert label(page, [0], name).status_code == 400
    assert set(session.labels) == {server.UNLABELLED}


# What the page may load and run


@pytest.mark.parametrize("path", ["/", "/version", "/photos/0/small", "/nothing"])
def test_every_answer_limits_what_the_page_may_load_and_run(page, path):
    headers = page.get(path).headers
    policy = dict(
        rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def page_text(name):
    return files("skcandle.labelling").joinpath("page", name).read_text(encoding="utf-8")


def test_the_page_has_no_script_or_style_of_its_own():
    for tag, attributes in Tags(page_text("index.html")).tags:
        assert tag != "style" and (tag != "script" or "src" in attributes)
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_every_part_of_the_page_is_one_of_its_files():
    tags = Tags(page_text("index.html")).tags
    linked = {value for _, attrs in tags for key, value in attrs.items() if key in ("src", "href")}
    assert {link for link in linked if not link.startswith("#")} < set(PAGE)


def test_the_page_names_no_other_address():
    for name in PAGE:
        addresses = set(re.findall(r"https?://[^\s\"']+", page_text(name)))
        assert addresses <= {"http://www.w3.org/2000/svg"}


def test_names_become_text_and_never_markup(page):
    for name in PAGE:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", page_text(name)
        )
    response = page.post("/answers", json={"on_screen": [11]})
    assert response.headers["content-type"] == "application/json"
    assert response.json()["photos"][0]["name"] == HOSTILE


def test_every_control_has_a_name():
    tags = Tags(page_text("index.html")).tags
    for tag, attributes in tags:
        if tag in ("dialog", "section", "svg", "input") and attributes.get("type") != "checkbox":
            if attributes.get("class") != "group" and attributes.get("id") != "curve":
                assert {"aria-label", "aria-labelledby"} & set(attributes), (tag, attributes)


# Where the server listens


@pytest.fixture
def started(session, monkeypatch):
    """Starts the server in place of :func:`serve`, and returns the address that it shows."""

    def start(**options):
        shown, opened = [], Queue()
        monkeypatch.setattr(server.uvicorn.Server, "run", lambda *args, **kwargs: None)
        monkeypatch.setattr(server.webbrowser, "open", opened.put)
        server.serve(session, show=shown.append, **options)
        return shown[0], opened

    return start


def test_the_address_has_a_new_token_each_time(started):
    addresses = [started(open_browser=False)[0] for _ in range(2)]
    tokens = [
        re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=(.{43})", each)[1] for each in addresses
    ]
    assert tokens[0] != tokens[1]


def test_the_browser_opens_the_address_that_is_shown(started):
    address, opened = started()
    assert opened.get(timeout=30) == address


def test_another_host_warns(started):
    with pytest.warns(UserWarning, match="can be reached from other machines"):
        started(host="0.0.0.0", open_browser=False)


def test_a_port_in_use_is_named(started):
    with server.socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"Cannot listen on port {port}"):
            started(port=port, open_browser=False)
