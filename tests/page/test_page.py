"""Tests of the status page in a real browser, headless Chromium.

    python tests/page/test_page.py                                        against a mock of the API
    python tests/page/test_page.py --url http://127.0.0.1:8080/durpina/ --token TOKEN       against a running filter

scripts/page-test.sh installs what this needs. Tests change the first upstream that has two peers, and put it back. What a
real API cannot be asked to do (fail, hold odd names) is played to the page on the way, so all tests run in both cases.
--screenshots DIR keeps pictures to look at.
"""

import argparse
import collections
import contextlib
import json
import os
import re
import shutil
import sys
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import mock_api
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

# Longer than a refresh.
expect.set_options(timeout=6000)
REFRESH = 2000
options = argparse.Namespace()
# A peer that nobody has: in a range that is kept for documentation.
NEW_PEER = "192.0.2.77:7777"


def api(method, path, body=None):
    request = urllib.request.Request(options.url + path, method=method, data=None if body is None else json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {options.token}")
    request.add_header("Content-Type", "application/json")
    # No proxy that the environment may name.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def peer_path(upstream, peer):
    return f"upstreams/{quote(upstream, safe='')}/peers/{quote(peer, safe='')}"


def browser_path():
    """The machine's Chromium; None lets playwright look for one of its own."""
    names = ["chromium", "chromium-browser", "google-chrome"]
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.playwright = sync_playwright().start()
        cls.addClassCleanup(cls.playwright.stop)
        # Chromium's sandbox refuses to work for root, whom build machines often are.
        flags = ["--no-sandbox"] if os.getuid() == 0 else []
        cls.browser = cls.playwright.chromium.launch(executable_path=browser_path(), args=flags)
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        upstream = next((u for u in api("GET", "upstreams") if len(u["peers"]) > 1), None)
        self.assertIsNotNone(upstream, "the tests need an upstream with two peers")
        self.upstream, self.peer, self.other = upstream["name"], *(p["name"] for p in upstream["peers"][:2])
        # Failed requests are also "errors" on the console; tests that make requests fail say so.
        self.failures_expected = False
        self.console, self.requests = [], []

    def open(self, token=True, bypass_csp=False, **settings):
        """Opens the page in a fresh context, with the token unless told otherwise."""
        settings = {"viewport": {"width": 1280, "height": 900}} | settings
        context = self.browser.new_context(bypass_csp=bypass_csp, **settings)
        self.addCleanup(context.close)
        if token:
            context.add_init_script(f"sessionStorage.setItem('durpina-token', {json.dumps(options.token)})")
        page = context.new_page()
        page.on("console", lambda m: self.console.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(options.url)
        if token:
            expect(self.row(page)).to_be_visible()
        return page

    def tearDown(self):
        said = [t for t in self.console if not (self.failures_expected and t.startswith("Failed to load resource"))]
        self.assertEqual(said, [], "nothing is on the console")
        origin = "/".join(options.url.split("/")[:3]) + "/"
        elsewhere = [url for url in self.requests if not url.startswith((origin, "data:"))]
        self.assertEqual(elsewhere, [], "the page asks nobody but its own server")

    # What a user sees, found as a user or a screen reader finds it.

    def table(self, page, upstream=None):
        return page.get_by_role("region", name=f"Upstream {upstream or self.upstream}", exact=True).get_by_role("table")

    def row(self, page, peer=None):
        header = page.get_by_role("rowheader").filter(has_text=re.compile("^" + re.escape(peer or self.peer)))
        return self.table(page).get_by_role("row").filter(has=header)

    def button(self, page, verb, peer=None):
        return self.row(page, peer).get_by_role("button", name=re.compile("^" + verb))

    def cell(self, page, title, peer=None):
        return self.row(page, peer).locator(f'[data-label="{title}"]')

    def result(self, page):
        return page.locator("#result")

    def add_button(self, page):
        return page.get_by_role("button", name=f"Add a peer to {self.upstream}", exact=True)

    @contextlib.contextmanager
    def answers(self, page, **answer):
        """The page's next refreshes get this answer, or none at all."""
        self.failures_expected = True
        page.route("**/upstreams", lambda route: route.fulfill(**answer) if answer else route.abort())
        yield
        page.unroute("**/upstreams")

    def remove_if_there(self, path):
        with contextlib.suppress(urllib.error.HTTPError):
            api("DELETE", path)

    def screenshot(self, page, name):
        if options.screenshots:
            page.screenshot(path=Path(options.screenshots, f"{name}.png"), full_page=True)

    # Reading

    def test_every_upstream_and_peer_is_listed(self):
        page = self.open()
        for upstream in api("GET", "upstreams"):
            names = self.table(page, upstream["name"]).get_by_role("rowheader")
            expect(names).to_contain_text([peer["name"] for peer in upstream["peers"]])
            expect(names).to_have_count(len(upstream["peers"]))

    def test_a_peer_shows_its_state_and_who_put_it_there_and_why(self):
        page = self.open()
        document = api("GET", "upstreams")
        peer = next(u for u in document if u["name"] == self.upstream)["peers"][0]
        peer.update(state="temporary_down", by="http", why="status 503, expected 200", since="2020-01-02T03:04:05.000Z",
                    until="2020-01-02T03:04:15.000Z", weight=9, effective_weight=4.5, in_flight=17, failures=1234,
                    description="too hot",
                    checks=[{"monitor": "http", "state": "down", "result": "failed", "why": "status 503",
                             "at": "2020-01-02T03:04:06.000Z", "duration_ms": 12}])
        with self.answers(page, json=document):
            state = self.cell(page, "State")
            expect(state).to_contain_text("temporarily down")
            expect(state).to_contain_text("by http: status 503, expected 200")
            expect(state).to_contain_text(re.compile(r"since 2020-01-0\d \d\d:\d\d:05, until 2020-01-0\d"))
            expect(state).to_contain_text("agent: too hot")
            expect(self.cell(page, "Weight")).to_contain_text("effective 4.5")
            expect(self.cell(page, "In flight")).to_have_text("17")
            expect(self.cell(page, "Failures")).to_contain_text("1,234")
            expect(self.cell(page, "Last checks")).to_contain_text("http: ✕ failedstatus 503, 12 ms")

    def test_upstreams_in_trouble_stand_at_the_top(self):
        page = self.open()
        template = next(u for u in api("GET", "upstreams") if u["name"] == self.upstream)
        peer = template["peers"][0] | {"state": "up", "in_use": True, "by": None, "why": None, "since": None, "until": None}

        def upstream(name, state, up, out=0, total=3, by="passive", why="peer 10.0.0.1:80: no connection"):
            peers = [peer | {"name": f"10.0.0.{i}:80"} for i in range(total)]
            return template | {"name": name, "state": state, "since": "2020-01-02T03:04:05.000Z", "by": by, "why": why, "peers": peers,
                               "peers_up": up, "peers_out": out}

        well = upstream("well", "up", 3, by=None, why=None)
        maintained = upstream("maintained", "up", 2, out=1, by=None, why=None)
        worse = upstream("worse", "degraded", 1, out=1)
        dead = upstream("dead", "down", 0)
        alarm = page.locator("#alarm")
        lines = alarm.get_by_role("listitem")
        since = r"since 2020-01-0\d \d\d:\d\d:05"
        with self.answers(page, json=[maintained, well, worse, dead, upstream("bare", "down", 0, total=0, by="configuration", why="there is no peer")]):
            expect(lines).to_have_text([
                re.compile(rf"^✕ down dead: 0 of 3 up, {since}, by passive: peer 10\.0\.0\.1:80: no connection$"),
                re.compile(rf"^✕ down bare: 0 of 0 up, {since}, by configuration: there is no peer$"),
                re.compile(rf"^▲ degraded worse: 1 of 3 up, 1 in maintenance, {since}, by passive: "),
            ])
            expect(page).to_have_title("2 down, 1 degraded – durpina")
            expect(page.locator("#summary")).to_have_text("5 upstreams: 2 down, 1 degraded; 12 peers")
            self.screenshot(page, "alarm")
            # What is hidden or far away is one key away.
            page.get_by_label("Filter").fill("no such peer")
            section = page.get_by_role("region", name="Upstream worse", exact=True)
            expect(section).to_be_hidden()
            alarm.get_by_role("link", name="worse").press("Enter")
            expect(section).to_be_in_viewport()
            expect(self.table(page, "maintained").locator("caption")).to_have_text("Peers of maintained: 2 of 3 up, 1 in maintenance")
        with self.answers(page, json=[well]):
            expect(lines).to_have_count(0)
            expect(alarm).to_be_hidden()
            expect(page).to_have_title("all up – durpina")

    def test_an_upstream_shows_its_state_and_why(self):
        page = self.open()
        document = api("GET", "upstreams")
        upstream = next(u for u in document if u["name"] == self.upstream)
        # All look up, and the API knows better: nothing here counts peers by itself.
        upstream.update(state="degraded", since="2020-01-02T03:04:05.000Z", by="monitor http", why="peer <b>: status 503",
                        peers_up=1, peers_out=1)
        total = len(upstream["peers"])
        section = page.get_by_role("region", name=f"Upstream {self.upstream}", exact=True)
        with self.answers(page, json=document):
            expect(section.locator(".badge")).to_have_text("▲ degraded")
            expect(section).to_contain_text(re.compile(r"since 2020-01-0\d \d\d:\d\d:05, by monitor http: peer <b>: status 503"))
            expect(section.locator("caption")).to_have_text(f"Peers of {self.upstream}: 1 of {total} up, 1 in maintenance")

    def test_a_peer_that_is_kept_in_use_does_not_look_well(self):
        page = self.open()
        document = api("GET", "upstreams")
        kept, well, *others = next(u for u in document if u["name"] == self.upstream)["peers"]
        for peer in others:
            peer.update(state="up", in_use=True, by=None, why=None)
        kept.update(state="down", in_use=True, by="monitor http", why="status 503; kept in use: no other peer is left")
        well.update(state="up", in_use=True, by=None, why=None)
        state = self.cell(page, "State")
        with self.answers(page, json=document):
            expect(state.locator("b")).to_have_text("✕ down")
            expect(state.locator(".tag")).to_have_text(["kept in use"])
            expect(state).to_contain_text("by monitor http: status 503; kept in use: no other peer is left")
            expect(self.cell(page, "State", self.other).locator(".tag")).to_have_count(0)
            page.get_by_label("Filter").fill("kept in use")
            expect(self.row(page, self.other)).to_be_hidden()
            expect(self.row(page)).to_be_visible()
        kept.update(in_use=False, why="status 503")
        with self.answers(page, json=document):
            expect(state.locator(".tag")).to_have_count(0)

    def test_what_keeps_checks_from_being_made_is_told(self):
        page = self.open()
        document = api("GET", "upstreams")
        upstream = next(u for u in document if u["name"] == self.upstream)
        upstream.update(problem="no name server answers", monitors=[
            {"id": "tcp", "name": "tcp", "problem": "the <b>gateway</b> is not there"}, {"id": "http", "name": "http", "problem": None}])
        section = page.get_by_role("region", name=f"Upstream {self.upstream}", exact=True)
        told = "names cannot be looked up: no name server answers · tcp cannot check: the <b>gateway</b> is not there"
        with self.answers(page, json=document):
            expect(section).to_contain_text(told)
        upstream.update(problem=None, monitors=[])
        with self.answers(page, json=document):
            expect(section).not_to_contain_text("cannot")

    def test_maintenance_is_called_maintenance(self):
        page = self.open()
        document = api("GET", "upstreams")
        peer = next(u for u in document if u["name"] == self.upstream)["peers"][0]
        state = self.cell(page, "State")
        for by, tags in [("operator", ["maintenance"]), ("configuration", ["maintenance"]), ("agent", []), ("passive", [])]:
            peer.update(state="down", in_use=False, by=by, why="it was said")
            with self.answers(page, json=document):
                expect(state).to_contain_text(f"by {by}: it was said")
                expect(state.locator(".tag")).to_have_text(tags)
        peer.update(state="draining", by="operator")
        with self.answers(page, json=document):
            expect(state.locator("b")).to_have_text("◌ draining")
            expect(state.locator(".tag")).to_have_text(["maintenance"])
            page.get_by_label("Filter").fill("maintenance")
            expect(self.row(page)).to_be_visible()

    def test_shares_are_overall_at_first_and_then_of_late(self):
        page = self.open(token=False)
        self.failures_expected = True
        document = api("GET", "upstreams")
        upstream = next(u for u in document if u["name"] == self.upstream)
        for peer in upstream["peers"]:
            peer["picks"] = 0
        first, second = upstream["peers"][:2]

        def answer(route):
            route.fulfill(json=document)
            first["picks"], second["picks"] = first["picks"] + 300, second["picks"] + 100

        first["picks"], second["picks"] = 100, 900
        page.route("**/upstreams", answer)
        page.get_by_role("button", name="Use token").click()
        expect(self.cell(page, "Share")).to_contain_text("10.0 %")
        expect(self.table(page)).to_contain_text("overall")
        expect(self.cell(page, "Share")).to_contain_text("75.0 %")
        expect(self.table(page)).to_contain_text(re.compile(r"last \d s"))

    def test_a_change_made_elsewhere_appears_by_itself(self):
        page = self.open()
        path = peer_path(self.upstream, self.peer)
        before = api("GET", path)["weight"]
        self.addCleanup(api, "PATCH", path, {"weight": before})
        api("PATCH", path, {"weight": 77})
        expect(self.cell(page, "Weight")).to_contain_text("77")

    def test_pause_and_a_hidden_tab_stop_the_refreshes(self):
        page = self.open()
        pause = page.get_by_role("button", name="Pause")
        hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});" \
               "document.dispatchEvent(new Event('visibilitychange')) }"
        for stop, go in [(pause.click, pause.click), (lambda: page.evaluate(hide, True), lambda: page.evaluate(hide, False))]:
            # In the middle of a refresh, whose answer comes later.
            held = []
            page.route("**/upstreams", lambda route: held.append(route))
            with page.expect_request("**/upstreams"):
                pass
            stop()
            held[0].continue_()
            page.unroute("**/upstreams")
            page.wait_for_timeout(300)
            before = len(self.requests)
            page.wait_for_timeout(1.5 * REFRESH)
            self.assertEqual(len(self.requests), before, "nothing is asked meanwhile")
            with page.expect_request("**/upstreams", timeout=1000):
                go()

    def test_stale_data_are_said_to_be_stale(self):
        page = self.open()
        with self.answers(page):
            alert = page.get_by_role("alert").first
            expect(alert).to_contain_text("Stale: what you see is as of")
            expect(alert).to_contain_text("The API cannot be reached.")
            expect(self.row(page)).to_be_visible()
            self.screenshot(page, "stale")
        expect(alert).to_be_empty()
        expect(self.result(page)).to_have_text("The API answers again.")

    def test_answers_of_something_else_are_not_taken_for_the_api(self):
        page = self.open()
        alert = page.get_by_role("alert").first
        with self.answers(page, status=200, content_type="text/html", body="<p>Sign in"):
            expect(alert).to_contain_text("The answer is not that of durpina's API.")
        with self.answers(page, status=502, content_type="text/plain", body="bad gateway"):
            expect(alert).to_contain_text("The API answered 502")

    def test_names_and_reasons_are_text_never_markup(self):
        page = self.open()
        evil = "<img src=x onerror=alert(1)>\"'&<script>alert(2)</script>"
        document = api("GET", "upstreams")[:1]
        document[0].update(name=f"up {evil}", balancer=evil, revision=evil)
        peer = dict(document[0]["peers"][0])
        texts = ["name", "address", "host", "state", "by", "why", "since", "until", "description"]
        peer.update({key: f"{key} {evil}" for key in texts}, addresses=[evil],
                    checks=[{"monitor": evil, "state": "down", "result": evil, "why": evil, "at": evil, "duration_ms": 1}])
        document[0]["peers"] = [peer]
        page.on("dialog", lambda dialog: (self.console.append(f"script ran: {dialog.message}"), dialog.dismiss()))
        with self.answers(page, json=document):
            expect(page.get_by_role("heading", name=f"up {evil}", exact=True)).to_be_visible()
            for key in set(texts) - {"address", "host"}:
                expect(page.get_by_role("table")).to_contain_text(f"{key} {evil}")
            page.get_by_role("button", name="Remove").click()
            expect(page.get_by_role("dialog")).to_contain_text(evil)
            self.assertEqual(page.locator("img, table script").count(), 0)

    def test_the_filter_hides_what_does_not_match(self):
        page = self.open()
        page.get_by_label("Filter").fill(self.peer.upper())
        expect(self.row(page)).to_be_visible()
        expect(self.row(page, self.other)).to_be_hidden()
        page.get_by_label("Filter").fill("no such peer")
        expect(page.get_by_text("No peer matches the filter.")).to_be_visible()

    def test_focus_and_typed_text_survive_refreshes(self):
        page = self.open()
        node = self.button(page, "Weight").element_handle()
        field = page.get_by_label("Token", exact=True)
        field.fill("half a tok")
        field.press("Home")
        page.wait_for_timeout(1.5 * REFRESH)
        expect(field).to_be_focused()
        expect(field).to_have_value("half a tok")
        self.assertEqual(field.evaluate("input => input.selectionStart"), 0, "the cursor stays where it was")
        node.focus()
        page.wait_for_timeout(1.5 * REFRESH)
        self.assertTrue(node.evaluate("button => button === document.activeElement"))
        self.row(page).get_by_role("rowheader").evaluate(
            "th => { const text = th.querySelector('.cell').firstChild; getSelection().setBaseAndExtent(text, 0, text, 4) }")
        page.wait_for_timeout(1.5 * REFRESH)
        self.assertEqual(page.evaluate("getSelection().toString()"), self.peer[:4], "what is selected stays selected")
        node.focus()
        page.keyboard.press("Enter")
        page.keyboard.type("12")
        page.wait_for_timeout(1.5 * REFRESH)
        expect(page.get_by_role("dialog").get_by_label("New weight")).to_have_value("12")
        expect(page.get_by_role("dialog").get_by_label("New weight")).to_be_focused()

    # The token

    def test_the_token_is_asked_for_and_a_wrong_one_is_said_to_be_wrong(self):
        self.failures_expected = True
        page = self.open(token=False)
        field = page.get_by_label("Token", exact=True)
        expect(page.get_by_text("The API asks for a token.")).to_be_visible()
        expect(field).to_be_focused()
        self.assertEqual(field.get_attribute("type"), "password")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The API refuses this token")).to_be_visible()
        self.assertEqual(field.get_attribute("aria-invalid"), "true")
        before = len(self.requests)
        page.wait_for_timeout(1.5 * REFRESH)
        self.assertEqual(len(self.requests), before, "a refused token is not tried again and again")
        field.fill("tøken")
        page.keyboard.press("Enter")
        expect(page.get_by_text("only ASCII characters")).to_be_visible()
        field.fill(options.token)
        page.keyboard.press("Enter")
        expect(self.row(page)).to_be_visible()
        expect(self.result(page)).to_have_text("The token is accepted.")
        expect(field).to_have_value("")
        self.assertEqual(page.evaluate("[localStorage.length, document.cookie]"), [0, ""], "the token is in sessionStorage only")
        page.reload()
        expect(self.row(page)).to_be_visible()
        page.get_by_role("button", name="Forget token").click()
        expect(page.get_by_text("The API asks for a token.")).to_be_visible()
        self.assertEqual(page.evaluate("sessionStorage.length"), 0)

    def test_without_a_token_nothing_can_be_changed(self):
        self.failures_expected = True
        page = self.open(token=False)
        document = api("GET", "upstreams")
        with self.answers(page, json=document):
            page.get_by_role("button", name="Use token").click()
            expect(self.row(page)).to_be_visible()
            expect(page.get_by_text("Read-only. Enter the token to make changes.")).to_be_visible()
            expect(self.button(page, "Weight")).to_have_count(0)
            expect(page.get_by_role("columnheader", name="Actions")).to_have_count(0)

    # Changes

    def test_the_weight_is_changed_by_keyboard_alone(self):
        page = self.open()
        path = peer_path(self.upstream, self.peer)
        before = api("GET", path)["weight"]
        self.addCleanup(api, "PATCH", path, {"weight": before})
        wanted = self.button(page, "Weight")
        for _ in range(200):
            page.keyboard.press("Tab")
            if wanted.evaluate("button => button === document.activeElement"):
                break
        expect(wanted).to_be_focused()
        outline = wanted.evaluate("button => getComputedStyle(button).outlineStyle")
        self.assertEqual(outline, "solid", "the focus can be seen")
        page.keyboard.press("Enter")
        field = page.get_by_label("New weight")
        expect(field).to_be_focused()
        expect(field).to_have_value(str(before))
        page.keyboard.type("0")
        page.keyboard.press("Enter")
        self.assertEqual(api("GET", path)["weight"], before, "0 is no weight")
        page.keyboard.press("Control+A")
        page.keyboard.type("41")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(self.result(page)).to_have_text(f"The weight of {self.peer} in {self.upstream} is now 41.")
        expect(self.cell(page, "Weight")).to_contain_text("41")
        self.assertEqual(api("GET", path)["weight"], 41)
        expect(wanted).to_be_focused()

    def test_escape_leaves_everything_as_it_was(self):
        page = self.open()
        before = api("GET", "upstreams")
        for verb in ["Weight", "State", "Remove"]:
            self.button(page, verb).focus()
            page.keyboard.press("Enter")
            expect(page.get_by_role("dialog")).to_be_visible()
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_be_hidden()
            expect(self.button(page, verb)).to_be_focused()
        after = api("GET", "upstreams")
        facts = [[[(p["name"], p["weight"], p["state"]) for p in u["peers"]] for u in us] for us in (before, after)]
        self.assertEqual(*facts)

    def test_the_state_is_changed(self):
        page = self.open()
        path = peer_path(self.upstream, self.peer)
        self.addCleanup(api, "PATCH", path, {"state": "up"})
        for choice, word in [("drain", "draining"), ("temporary_down", "temporarily down"), ("down", "down"), ("up", "up")]:
            self.button(page, "State").click()
            page.get_by_role("dialog").locator(f"input[value={choice}]").check()
            self.screenshot(page, "dialog")
            page.get_by_role("button", name="Change the state").click()
            expect(self.result(page)).to_have_text(f"{self.peer} in {self.upstream} is now {word}.")
            expect(self.cell(page, "State").locator("b")).to_have_text(re.compile(f". {word}$"))

    def test_a_peer_is_added_and_removed(self):
        page = self.open()
        path = peer_path(self.upstream, NEW_PEER)
        self.add_button(page).click()
        page.get_by_label("Server").fill(f"{NEW_PEER} weight=3 backup")
        self.assertNotIn(NEW_PEER, json.dumps(api("GET", "upstreams")), "nothing happens before it is confirmed")
        page.get_by_role("button", name="Add the peer").click()
        self.addCleanup(self.remove_if_there, path)
        expect(self.result(page)).to_have_text(f"{NEW_PEER} was added to {self.upstream}.")
        expect(self.cell(page, "Weight", NEW_PEER)).to_contain_text("3")
        self.assertEqual(api("GET", path)["backup"], True)

        self.failures_expected = True
        self.add_button(page).click()
        page.get_by_label("Server").fill(NEW_PEER)
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog").get_by_role("alert")).not_to_be_empty()
        page.get_by_role("button", name="Cancel").click()

        self.button(page, "Remove", NEW_PEER).click()
        expect(page.get_by_role("dialog", name=f"Remove {NEW_PEER} from {self.upstream}?")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_be_focused()
        expect(self.row(page, NEW_PEER)).to_be_visible()
        page.get_by_role("button", name="Remove the peer").click()
        expect(self.result(page)).to_have_text(f"{NEW_PEER} was removed from {self.upstream}.")
        expect(self.row(page, NEW_PEER)).to_have_count(0)
        self.assertNotIn(NEW_PEER, json.dumps(api("GET", "upstreams")))
        expect(self.add_button(page)).to_be_focused()

    def test_what_the_api_has_against_a_change_is_shown(self):
        self.failures_expected = True
        page = self.open()
        # A browser begins to ask about requests some time after it is told to: long before the answers below are made up.
        page.route("**/peers", lambda route: route.continue_())
        self.add_button(page).click()
        field = page.get_by_label("Server")
        field.fill("not a server!")
        page.keyboard.press("Enter")
        error = page.get_by_role("dialog").get_by_role("alert")
        expect(error).to_contain_text("expected")
        expect(field).to_be_focused()
        expect(field).to_have_value("not a server!")
        self.screenshot(page, "error")
        problem = {"type": "about:blank", "title": "Invalid content", "status": 422, "detail": "unused",
                   "errors": [{"place": "weight", "message": "too <b>much</b>"}, {"place": "max_fails", "message": "too little"}]}
        page.route("**/peers", lambda route: route.fulfill(status=422, json=problem))
        page.keyboard.press("Enter")
        expect(error).to_have_text("weight: too <b>much</b>\nmax_fails: too little")
        page.route("**/peers", lambda route: route.abort())
        page.keyboard.press("Enter")
        expect(error).to_contain_text("Whether the change was made is not known.")
        page.keyboard.press("Escape")
        expect(self.add_button(page)).to_be_focused()

    # Looks, and access for everyone

    def test_dark_and_light_follow_the_system(self):
        shades = {}
        for scheme in ["light", "dark"]:
            page = self.open(color_scheme=scheme)
            page.wait_for_timeout(1.2 * REFRESH)
            colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
            shades[scheme] = sum(map(int, re.findall(r"\d+", colour)))
            self.screenshot(page, scheme)
        self.assertGreater(shades["light"], 600)
        self.assertLess(shades["dark"], 150)

    def test_narrow_screens_need_no_sideways_scrolling(self):
        for width in [320, 390, 768, 1024, 1280]:
            page = self.open(viewport={"width": width, "height": 700})
            self.assertLessEqual(page.evaluate("document.scrollingElement.scrollWidth"), width)
            # What is cut off is as bad as what sticks out.
            wide = page.locator("tbody td, tbody th").evaluate_all(
                "all => all.filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.textContent)")
            self.assertEqual(wide, [], f"at {width} pixels")
            if width == 390:
                self.screenshot(page, "narrow")

    def test_no_word_in_a_header_is_broken(self):
        for width in [1121, 1200, 1600]:
            page = self.open(viewport={"width": width, "height": 700})
            broken = self.table(page).locator("thead").evaluate("""head => {
                const words = [];
                const texts = document.createTreeWalker(head, NodeFilter.SHOW_TEXT);
                while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/\\S+/g)) {
                    const range = document.createRange();
                    range.setStart(texts.currentNode, word.index);
                    range.setEnd(texts.currentNode, word.index + word[0].length);
                    if (range.getClientRects().length > 1) words.push(word[0]);
                }
                return words;
            }""")
            self.assertEqual(broken, [], f"at {width} pixels")

    def test_tables_are_tables_for_screen_readers_on_all_screens(self):
        for width in [390, 1280]:
            page = self.open(viewport={"width": width, "height": 700})
            table = self.table(page)
            self.assertIn(self.upstream, table.locator("caption").inner_text())
            headers = table.get_by_role("columnheader")
            titles = ["Peer", "State", "Weight", "Share", "In flight", "Failures", "Last checks", "Actions"]
            expect(headers).to_contain_text(titles)
            self.assertEqual(set(headers.evaluate_all("all => all.map(th => th.scope)")), {"col"})
            expect(self.row(page).get_by_role("rowheader")).to_have_attribute("scope", "row")
            expect(self.row(page).get_by_role("cell")).to_have_count(7)
            # What the browser tells a screen reader: styles can take a table's roles away.
            tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
            roles = collections.Counter(node["role"]["value"] for node in tree if not node["ignored"])
            document = api("GET", "upstreams")
            peers = sum(len(upstream["peers"]) for upstream in document)
            expected = {"table": len(document), "columnheader": 8 * len(document), "row": len(document) + peers,
                        "rowheader": peers, "cell": 7 * peers}
            self.assertEqual({role: roles[role] for role in expected}, expected, f"at {width} pixels")

    def test_refreshes_are_not_announced(self):
        page = self.open()
        self.failures_expected = True
        document = api("GET", "upstreams")

        # Traffic goes on, and no state changes meanwhile, as one could in a running filter.
        def answer(route):
            for upstream in document:
                for peer in upstream["peers"]:
                    peer.update(picks=peer["picks"] + 7, failures=peer["failures"] + 1, in_flight=peer["in_flight"] + 1)
            route.fulfill(json=document)

        page.route("**/upstreams", answer)
        live = page.locator("[aria-live], [role=status], [role=alert], [role=log], output")
        self.assertEqual(live.evaluate_all("all => all.map(node => node.id)"), ["alarm", "trouble", "result", "error"])
        in_flight = document[0]["peers"][0]["in_flight"]
        expect(self.cell(page, "In flight")).not_to_have_text(str(in_flight))
        page.evaluate("""() => {
          window.announced = 0;
          const count = (changes) => { announced += changes.length };
          for (const node of document.querySelectorAll("[aria-live], [role=status], [role=alert]"))
            new MutationObserver(count).observe(node, {childList: true, characterData: true, subtree: true});
        }""")
        page.wait_for_timeout(2.5 * REFRESH)
        self.assertEqual(page.evaluate("announced"), 0)

    def test_a_change_for_the_worse_is_announced_once_and_alone(self):
        page = self.open()
        document = api("GET", "upstreams")
        template = next(u for u in document if u["name"] == self.upstream)
        facts = {"state": "degraded", "since": "2020-01-02T03:04:05.000Z", "by": "passive", "why": "peer a: no connection"}
        sick, well = template | facts | {"name": "sick"}, template | {"name": "well", "state": "up", "by": None, "why": None}
        self.failures_expected = True
        now = [sick, well]
        page.route("**/upstreams", lambda route: route.fulfill(json=now))
        lines = page.locator("#alarm li")
        expect(lines).to_have_text([re.compile("^▲ degraded sick: ")])
        # The lines that each change of the page touches.
        page.evaluate("""() => {
          window.announced = [];
          const lineOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement)?.closest("li")?.textContent;
          new MutationObserver((changes) => {
            const touched = changes.flatMap((change) => [change.target, ...change.addedNodes]).map(lineOf);
            announced.push([...new Set(touched.filter(Boolean))]);
          }).observe(document.getElementById("alarm"), {childList: true, characterData: true, subtree: true});
        }""")
        now[1] = well | facts | {"state": "down"}
        expect(lines).to_have_count(2)
        page.wait_for_timeout(1.5 * REFRESH)
        self.assertEqual(page.evaluate("announced"), [[lines.first.text_content()]], "the other line is not touched")
        self.assertRegex(lines.first.text_content(), "^✕ down well: ")

    def test_axe_finds_nothing(self):
        self.failures_expected = True
        for scheme in ["light", "dark"]:
            for width in [390, 1280]:
                # axe itself needs more than the page's policy permits.
                page = self.open(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
                self.assert_accessible(page, f"{scheme}, {width} pixels")
                for opener in [self.add_button(page), *(self.button(page, verb) for verb in ["Weight", "State", "Remove"])]:
                    opener.click()
                    self.assert_accessible(page, f"{scheme}, {width} pixels, dialog {opener}")
                    page.keyboard.press("Escape")
                with self.answers(page):
                    expect(page.get_by_role("alert").first).to_contain_text("Stale")
                    self.assert_accessible(page, f"{scheme}, {width} pixels, stale")

    def assert_accessible(self, page, where):
        found = Axe().run(page).response["violations"]
        told = [f"{v['id']}: {v['help']}: {[node['html'] for node in v['nodes']][:3]}" for v in found]
        self.assertEqual(told, [], where)

    # How it is served

    def test_the_page_is_served_safely(self):
        response = self.open().request.get(options.url)
        headers = response.headers
        self.assertIn("default-src 'none'", headers["content-security-policy"])
        self.assertEqual(headers["cache-control"], "no-store")
        self.assertEqual(headers["x-content-type-options"], "nosniff")
        self.assertRegex(headers["content-type"], "^text/html")
        self.assertLess(len(response.body()), 32_000)
        for token in [" style=", " onclick", "innerHTML", "insertAdjacentHTML", "document.write"]:
            self.assertNotIn(token, response.text())


def main():
    parser = argparse.ArgumentParser(description="Tests the status page in headless Chromium.")
    parser.add_argument("--url", help="the page of a running filter; without it a mock is started")
    parser.add_argument("--token", default="", help="its token; a filter without one cannot be changed, so it must have one")
    parser.add_argument("--screenshots", metavar="DIR", help="keep pictures there")
    parser.add_argument("tests", nargs="*", help="only these, such as PageTest.test_the_state_is_changed")
    parser.parse_args(namespace=options)
    if not options.url:
        options.url, options.token = mock_api.start()
    options.url = options.url.rstrip("/") + "/"
    if options.screenshots:
        Path(options.screenshots).mkdir(parents=True, exist_ok=True)
    run = unittest.main(argv=[sys.argv[0], *options.tests], verbosity=2, exit=False).result
    failed = len(run.failures) + len(run.errors)
    print(f"{run.testsRun - failed} passed, {failed} failed")
    sys.exit(1 if failed or run.testsRun == 0 else 0)


if __name__ == "__main__":
    main()
