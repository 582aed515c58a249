"""A small stand-in for the filter's management API, for the tests of the status page: the same documents, errors and headers,
with servers and traffic made up. It serves the page with the strictest policy that it must work under."""

import base64
import hashlib
import json
import pathlib
import re
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

PAGE = pathlib.Path(__file__).resolve().parents[2] / "src" / "admin" / "page.html"
PREFIX = "/durpina"
TOKEN = "mock-token"
STATES = {"up": "up", "drain": "draining", "down": "down", "temporary_down": "temporary_down"}


def content_security_policy(page):
    """Only the page's own script and style run, and it can talk to nobody but the API."""
    def digest(tag):
        text = re.search(f"<{tag}>(.*?)</{tag}>", page, re.S).group(1)
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {digest('script')}; style-src {digest('style')}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def make_peer(name, weight=1, configured=True, **more):
    host, port = name.rsplit(":", 1)
    bare = host.strip("[]")
    peer = {
        "name": name, "address": bare, "weight": weight, "state": "up", "host": bare, "port": int(port), "addresses": [bare],
        "initial_weight": weight, "effective_weight": float(weight), "by": None, "why": None, "since": None, "until": None,
        "in_use": True, "fails": 0, "max_fails": 1, "fail_timeout": "10s", "max_conns": 0, "slow_start": "0ms", "backup": False,
        "configured": configured, "in_flight": 0, "picks": 0, "failures": 0, "checks": [], "description": None,
    }
    return peer | more


def is_up(peer):
    return peer["state"] in ("up", "failing")


def is_taken_out(peer):
    return not is_up(peer) and peer["by"] in ("operator", "configuration")


def judge(upstream):
    """Puts the upstream's state into its document, made of its peers'."""
    peers = upstream["peers"]
    up, out = sum(map(is_up, peers)), sum(map(is_taken_out, peers))
    state = "down" if not up else "up" if up == len(peers) - out else "degraded"
    if state != upstream.get("state"):
        # The first of the gravest: what failed comes before what somebody took out.
        bad = next((peer for peer in sorted(peers, key=is_taken_out) if not is_up(peer)), None)
        reason = bad and bad["why"] or "out of use"
        by, why = (bad["by"], f"peer {bad['name']}: {reason}") if bad else ("configuration", "there is no peer")
        if state == "up":
            by = why = None
        upstream.update(state=state, since=rfc3339(time.time() - 90), by=by, why=why)
    upstream.update(peers_up=up, peers_out=out)


def make_check(ok=True, why=None, ms=3):
    state, result = ("up", "ok") if ok else ("down", "failed")
    return {"monitor": "http", "state": state, "result": result, "why": why, "at": rfc3339(time.time()), "duration_ms": ms}


def make_upstreams():
    now = time.time()
    refused = "connection refused"
    return [
        {
            "name": "web", "revision": 2, "balancer": "round-robin", "retries": 2, "max_ejected_percent": 50,
            "peers": [
                make_peer("10.0.0.1:8080", 5, picks=51234, in_flight=3, checks=[make_check()]),
                make_peer("10.0.0.2:8080", 2, picks=20411, in_flight=1, initial_weight=1, fails=1, max_fails=3, failures=7,
                          state="failing", by="passive", why="reset by the server", since=rfc3339(now - 4),
                          checks=[make_check()]),
                make_peer("10.0.0.3:8080", 2, picks=9120, failures=41, fails=1, state="temporary_down", by="passive", why=refused,
                          since=rfc3339(now - 6), until=rfc3339(now + 4), effective_weight=0, in_use=False,
                          checks=[make_check(False, refused, 1)]),
                make_peer("app4.example:8080", 4, picks=18000, state="down", by="monitor http",
                          why="status 503, expected 200; kept in use: max_ejected_percent (50 %) lets no more peers go out of use",
                          since=rfc3339(now - 90000), failures=12, addresses=["10.0.0.4", "10.0.1.4"],
                          checks=[make_check(False, "status 503, expected 200", 12)]),
                make_peer("app5.example:8080", address=None, addresses=[], state="draining", by="operator",
                          since=rfc3339(now - 700), effective_weight=0, in_use=False, configured=False, description="maintenance until noon"),
                make_peer("10.0.0.9:8080", backup=True, max_conns=100, checks=[make_check()]),
            ],
            "monitors": [{"id": "http", "name": "http", "interval": "5s", "timeout": "1s", "schedule": "rotate", "rise": 2,
                          "fall": 3, "peers": "all", "port": None, "url": "/up"}],
        },
        {
            "name": "static/v2 beta", "revision": 1, "balancer": "ketama", "retries": 1, "max_ejected_percent": 50,
            "peers": [make_peer("[2001:db8::11]:80", picks=700), make_peer("[2001:db8::12]:80", 3, picks=2111)],
            "monitors": [],
        },
        {
            "name": "empty", "revision": 1, "balancer": "least-conn", "retries": 2, "max_ejected_percent": 50, "peers": [],
            "monitors": [],
        },
    ]


class Problem(Exception):
    def __init__(self, status, title, detail, errors=None, headers=()):
        super().__init__(detail)
        self.body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        if errors:
            self.body["errors"] = errors
        self.status, self.headers = status, dict(headers)


def invalid(place, message):
    return Problem(422, "Invalid content", f"{place}: {message}", [{"place": place, "message": message}])


class Api:
    """What the API does, without HTTP."""

    def __init__(self):
        self.upstreams = make_upstreams()
        self.judge()
        self.traffic_at = time.time()

    def judge(self):
        for upstream in self.upstreams:
            judge(upstream)

    def pass_traffic(self):
        """80 requests a second and upstream, by weight."""
        now = time.time()
        for upstream in self.upstreams:
            peers = [p for p in upstream["peers"] if p["in_use"] and not p["backup"]]
            for peer in peers:
                peer["picks"] += round(80 * (now - self.traffic_at) * peer["weight"] / sum(p["weight"] for p in peers))
        self.traffic_at = now

    def find(self, items, name, what):
        for item in items:
            if item["name"] == name:
                return item
        raise Problem(404, "Not found", f"there is no {what} {name}")

    def answer(self, method, names, content_type, body):
        self.pass_traffic()
        self.judge()
        if names == ["upstreams"] and method == "GET":
            return 200, self.upstreams
        if len(names) < 3 or names[0] != "upstreams" or names[2] != "peers":
            raise Problem(404, "Not found", "there is nothing here")
        upstream = self.find(self.upstreams, names[1], "upstream")
        if len(names) == 3 and method == "POST":
            return 201, self.add(upstream, content_type, body)
        peer = self.find(upstream["peers"], names[3], "peer")
        if method == "PATCH":
            return 200, self.change(peer, json.loads(body))
        if method == "DELETE":
            upstream["peers"].remove(peer)
            return 204, None
        if method == "GET":
            return 200, peer
        raise Problem(405, "Method not allowed", f"{method} is not possible here", headers={"Allow": "GET, PATCH, DELETE"})

    def add(self, upstream, content_type, body):
        if content_type != "text/plain":
            raise Problem(415, "Unsupported media type", "expected text/plain")
        name, *words = body.split()
        if not re.fullmatch(r"[\w.\-]+:\d+", name):
            raise invalid("name", f'expected host:port, found "{name}"')
        if any(peer["name"] == name for peer in upstream["peers"]):
            raise Problem(409, "Conflict", f"{name} exists already")
        parameters = dict(word.split("=") for word in words if "=" in word)
        peer = make_peer(name, int(parameters.get("weight", 1)), configured=False, backup="backup" in words)
        upstream["peers"].append(peer)
        return peer

    def change(self, peer, change):
        if "weight" in change:
            weight = change["weight"]
            if not isinstance(weight, int) or not 1 <= weight <= 65535:
                raise invalid("weight", f"expected an integer from 1 to 65535, found {json.dumps(weight)}")
            peer.update(weight=weight, effective_weight=float(weight))
        if "state" in change:
            state = STATES[change["state"]]
            up = state == "up"
            peer.update(state=state, in_use=up, by=None if up else "operator", why=None, until=None, fails=0,
                        since=rfc3339(time.time()), effective_weight=float(peer["weight"]) if up else 0)
        return peer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        path = self.path.split("?")[0]
        if self.command == "GET" and path == PREFIX + "/":
            page = PAGE.read_text()
            return self.send(200, page, "text/html; charset=utf-8", {"Content-Security-Policy": content_security_policy(page)})
        try:
            if not path.startswith(PREFIX + "/"):
                raise Problem(404, "Not found", "there is nothing here")
            if self.headers.get("authorization") != "Bearer " + TOKEN:
                challenge = {"WWW-Authenticate": 'Bearer realm="durpina"'}
                raise Problem(401, "Unauthorized", "a bearer token is needed", headers=challenge)
            names = [unquote(name) for name in path.removeprefix(PREFIX + "/").split("/")]
            with self.server.lock:
                status, answer = self.server.api.answer(self.command, names, self.headers.get("content-type"), body)
                text = "" if answer is None else json.dumps(answer)
            self.send(status, text, "application/json", {})
        except Problem as problem:
            self.send(problem.status, json.dumps(problem.body), "application/problem+json", problem.headers)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_request

    def send(self, status, text, content_type, headers):
        body = text.encode()
        self.send_response(status)
        fixed = {"Content-Type": content_type, "Content-Length": str(len(body)), "Cache-Control": "no-store",
                 "X-Content-Type-Options": "nosniff"}
        for name, value in (fixed | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def start():
    """Serves on a free loopback port until the process ends. Returns the page's address and the token."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.api, server.lock = Api(), threading.Lock()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}{PREFIX}/", TOKEN
