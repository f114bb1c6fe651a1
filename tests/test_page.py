"""The page at ``/`` in a real browser: what it shows, what it refuses, who can use it."""

import html
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Route,
    expect,
    sync_playwright,
)

from harness.mail import mail_server
from harness.probes import add_task
from harness.project import SLUG, TEMPLATE, Project
from harness.service import Service, running

from .conftest import Bake, lack
from .test_readme import blocks
from .variants import FULL, Variant

WAIT = 30_000  # milliseconds
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
QUIET = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP devbox.test 127.0.0.1",  # to a browser that is another machine
    *("--disable-lcd-text", "--font-render-hinting=none"),  # pictures without coloured fringes
)
PICTURE = TEMPLATE / "docs" / "page.png"
RECORD = """
window.seen = [];
new MutationObserver(() => {
  for (const row of document.querySelectorAll("#tasks li")) {
    const state = row.querySelector(".status").textContent;
    const label = row.querySelector(".label").textContent;
    if (!window.seen.some(([l, s]) => l === label && s === state)) window.seen.push([label, state]);
  }
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
PLACE = """({ firstChild: text }, letter) => {
  const range = new Range();
  range.setStart(text, letter);
  range.setEnd(text, letter + 1);
  return range.getBoundingClientRect().x;
}"""

Open = Callable[..., Page]


def on(variants: list[Variant]) -> pytest.MarkDecorator:
    """Return what has a test run on each of the variants."""
    groups = [
        pytest.param(variant, id=variant.id, marks=pytest.mark.xdist_group(variant.id))
        for variant in variants
    ]
    return pytest.mark.parametrize("variant", groups, indirect=True)


both_backends = on(FULL)
one_backend = on([variant for variant in FULL if not variant.celery])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run Debian's Chromium, or whichever there is."""
    if not CHROMIUM:
        lack("not installed: chromium")
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=QUIET, chromium_sandbox=os.geteuid() != 0
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Return a function that opens a service's page; the console must stay free of complaints."""
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        # The browser notes every answer of 400 and more; those are for the page to explain.
        if message.type != "log" and not message.text.startswith("Failed to load resource"):
            complaints.append(message.text)

    def open_page(service: Service, **options: Any) -> Page:
        # An animation would be painted by the processor, sixty times a second.
        context = browser.new_context(reduced_motion="reduce", **options)
        context.add_init_script(RECORD)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(service.url)
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def service(installed: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run one service for many tests: a page knows only what it has enqueued itself."""
    with running(installed, tmp_path_factory.mktemp("page") / "data") as service:
        yield service


def create(page: Page, name: str) -> Locator:
    """Create an item; returns its row."""
    page.get_by_label("Name of an item").fill(name)
    page.get_by_role("button", name="Create").click()
    return row(page, name)


def welcome(page: Page, address: str) -> Locator:
    """Send a mail; returns its row."""
    page.get_by_label("Address to welcome").fill(address)
    page.get_by_role("button", name="Send mail").click()
    return row(page, address)


def row(page: Page, label: str) -> Locator:
    return page.get_by_role("listitem").filter(has_text=label)


def seen(page: Page, label: str) -> list[str]:
    """Return the states that a task was shown in, in their order."""
    return [state for name, state in page.evaluate("window.seen") if name == label]


@both_backends
def test_a_task_is_watched_from_queued_to_succeeded(
    installed: Project, tmp_path: Path, open_page: Open
) -> None:
    with (
        mail_server(delay=1) as mailbox,
        running(
            installed,
            tmp_path / "data",
            **mailbox.settings,
            TASK_CONCURRENCY="2",  # Celery's worker has two processes too
            SMTP_TIMEOUT="60",
        ) as service,
    ):
        mailbox.room = 0
        page = open_page(service)
        expect(page.get_by_text("from queued to its end")).to_be_visible()
        addresses = [f"{name}@example.com" for name in ("ada", "grace", "mary", "radia", "jean")]
        for address in addresses:
            expect(welcome(page, address)).to_be_visible()
        expect(page.get_by_text("Email will be sent soon")).to_be_visible()
        last = row(page, addresses[-1])
        mailbox.room = 4
        expect(last).to_have_class("running")
        # Ends that come between two looks are told together; the last one is to come alone.
        expect(page.locator("#tasks .succeeded")).to_have_count(4)
        mailbox.room = 5
        expect(last).to_have_class("succeeded")
        expect(last.locator(".facts")).to_have_text(re.compile(r"^send_email · \d+\.\d s$"))
        check(page)
        assert seen(page, addresses[-1]) == ["queued", "running", "succeeded"]
        expect(page.locator("#news")).to_have_text("jean@example.com: succeeded.")
        expect(page.locator("#tasks .succeeded")).to_have_count(len(addresses))
        page.reload()  # the tab remembers, the newest first
        expect(page.locator("#tasks .label").first).to_have_text(addresses[-1])
        expect(page.locator("#tasks .succeeded")).to_have_count(len(addresses))
    assert len(mailbox.mails) == len(addresses)


@both_backends
def test_a_failure_and_a_retry_are_seen(
    installed: Project, tmp_path: Path, open_page: Open
) -> None:
    with (
        mail_server() as mailbox,
        running(installed, tmp_path / "data", **mailbox.settings) as service,
    ):
        page = open_page(service)
        mailbox.reply = "550 no such mailbox"
        refused = welcome(page, "nobody@example.com")
        expect(refused).to_have_class("failed")
        expect(refused.locator(".error")).to_contain_text("550")
        expect(page.locator("#news")).to_contain_text("nobody@example.com: failed, Refused: 550")
        mailbox.reply = "451 try again later"
        retried = welcome(page, "ada@example.com")
        expect(retried).to_have_class("retrying")
        expect(retried.locator(".error")).to_contain_text("451")
        mailbox.reply = "250 OK"
        expect(retried).to_have_class("succeeded")
        expect(retried).to_contain_text("attempts")
        expect(retried.locator(".error")).to_have_text("")


@one_backend
def test_a_bad_field_is_named(service: Service, open_page: Open) -> None:
    page = open_page(service)
    welcome(page, "nobody")
    field = page.get_by_label("Address to welcome")
    expect(page.locator("#email-message")).to_have_text(
        "email: value is not a valid email address: An email address must have an @-sign."
    )
    expect(page.locator("#email-message")).to_have_class("problem")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(page.locator("#email-message").inner_text())
    expect(field).to_be_focused()
    expect(page.get_by_role("listitem")).to_have_count(0)
    expect(welcome(page, "ada@example.com")).to_have_class("succeeded")
    assert field.get_attribute("aria-invalid") is None


@one_backend
def test_a_key_is_asked_for_and_forgotten_with_the_tab(
    installed: Project, tmp_path: Path, open_page: Open
) -> None:
    with running(installed, tmp_path / "data", API_KEY="open sesame") as service:
        page = open_page(service)
        create(page, "Lamp")
        expect(page.locator("#name-message")).to_contain_text("key is missing or wrong")
        field = page.get_by_label("X-API-Key")
        expect(field).to_be_focused()
        expect(page.get_by_role("listitem")).to_have_count(0)
        field.fill("„open sesame“")  # what no header can have
        field.press("Enter")
        expect(page.locator("#key-message")).to_have_text("")
        assert field.evaluate("field => field.validity.patternMismatch")
        field.fill("open sesame")
        field.press("Enter")
        expect(create(page, "Lamp")).to_have_class("succeeded")
        page.reload()
        expect(create(page, "Chair")).to_have_class("succeeded")
        assert page.evaluate("localStorage.length + document.cookie.length") == 0
        other = open_page(service)
        create(other, "Table")
        expect(other.locator("#name-message")).to_contain_text("key is missing or wrong")


@one_backend
def test_what_another_program_kept_under_the_address_does_no_harm(
    service: Service, open_page: Open
) -> None:
    page = open_page(service)
    for kept in ("no JSON", "{}", "[null]"):
        page.evaluate("kept => sessionStorage.setItem('tasks', kept)", kept)
        page.reload()
        expect(create(page, kept)).to_have_class("succeeded")


@one_backend
def test_a_full_service_and_a_dead_one_are_told_in_words(
    installed: Project, tmp_path: Path, open_page: Open
) -> None:
    with (
        mail_server() as mailbox,
        running(installed, tmp_path / "data", **mailbox.settings, TASK_BACKLOG="1") as service,
    ):
        mailbox.room = 0
        page = open_page(service)
        waiting = welcome(page, "ada@example.com")
        expect(waiting).to_have_class("running")
        create(page, "Lamp")
        expect(page.locator("#name-message")).to_have_text(
            "Not accepted: 1 tasks are waiting: TASK_BACKLOG is reached. Try again in 5 s."
        )
        service.api.kill()
        expect(page.locator("#trouble")).to_have_text("The service does not answer. Does it run?")
        create(page, "Lamp")
        expect(page.locator("#name-message")).to_have_text(
            "The service does not answer. Does it run?"
        )
        expect(page.get_by_role("listitem")).to_have_count(1)


@one_backend
def test_an_answer_that_is_not_the_services_is_told_as_it_is(
    service: Service, open_page: Open
) -> None:
    page = open_page(service)
    message = page.locator("#name-message")
    page.route(re.compile("/items/"), lambda it: it.fulfill(status=200, body="Log in first"))
    create(page, "Lamp")
    expect(message).to_have_text("Not accepted: 200 OK.")
    page.route(re.compile("/items/"), lambda it: it.fulfill(status=502, body="null"))
    create(page, "Lamp")
    expect(message).to_have_text("Not accepted: 502 Bad Gateway.")
    page.unroute_all()
    expect(page.get_by_role("listitem")).to_have_count(0)
    page.route(re.compile("/tasks/"), lambda it: it.fulfill(status=503, body='{"detail": "no"}'))
    create(page, "Lamp")
    expect(page.locator("#trouble")).to_have_text("No status: no.")
    page.evaluate("window.fetch = async () => new Response('', { status: 502 })")  # as by HTTP/2
    create(page, "Lamp")
    expect(message).to_have_text("Not accepted: 502.")


@one_backend
@pytest.mark.parametrize("answered", [True, False])
def test_what_an_earlier_look_brings_late_is_not_told(
    service: Service, open_page: Open, answered: bool
) -> None:
    looks: list[Route] = []
    page = open_page(service)
    page.route(re.compile("/tasks/"), lambda look: looks.append(look))
    lamp = create(page, "Lamp")
    expect(lamp).to_have_class("queued")
    create(page, "Chair")  # and another look at the lamp
    while len(looks) < 3:
        page.wait_for_timeout(10)
    for look in looks[1:]:
        look.fulfill(json={"status": "running"})
    expect(lamp).to_have_class("running")
    with page.expect_event("requestfinished" if answered else "requestfailed"):
        looks[0].fulfill(json={"status": "queued"}) if answered else looks[0].abort()
    page.wait_for_timeout(100)
    expect(lamp).to_have_class("running")
    expect(page.locator("#trouble")).to_have_text("")


@one_backend
def test_it_shows_the_latest_fifty(service: Service, open_page: Open) -> None:
    page = open_page(service)
    page.evaluate(
        """() => {
          const it = (_, number) => ({ task_id: `old-${number}`, label: `Item ${number}` });
          sessionStorage.tasks = JSON.stringify(Array.from({ length: 50 }, it));
        }"""
    )
    held: list[Route] = []
    page.route(re.compile("/tasks/old-0"), lambda route: held.append(route))
    page.reload()
    expect(page.get_by_role("listitem")).to_have_count(50)
    expect(create(page, "Lamp")).to_have_class("succeeded")
    expect(page.get_by_role("listitem")).to_have_count(50)
    for route in held:  # the status of what is not shown any more
        route.continue_()
    expect(create(page, "Chair")).to_have_class("succeeded")
    expect(page.get_by_role("listitem")).to_have_count(50)


@one_backend
def test_the_same_news_is_told_again(service: Service, open_page: Open) -> None:
    page = open_page(service)
    page.evaluate(
        """() => {
          const it = document.getElementById("news");
          window.told = [];
          new MutationObserver(() => told.push(it.textContent)).observe(it, { childList: true });
        }"""
    )
    for number in (1, 2):
        create(page, "Lamp")
        expect(page.locator("#tasks .succeeded")).to_have_count(number)
    assert page.evaluate("told").count("Lamp: succeeded.") == 2
    page.evaluate('sessionStorage.tasks = \'[{ "task_id": "none", "label": "Old" }]\'')
    page.reload()
    expect(page.locator("#news")).to_have_text("Old: unknown, The service has forgotten this task.")
    looks: list[str] = []
    page.on("request", lambda request: looks.append(request.url))
    page.wait_for_timeout(600)  # more than the pause between two looks
    assert looks == [], "what is over is looked at again"


@one_backend
def test_a_keyboard_is_enough(service: Service, open_page: Open) -> None:
    page = open_page(service)
    stops = []
    for _ in range(8):
        page.keyboard.press("Tab")
        focus = page.locator(":focus")
        if not focus.count():
            break  # past the page's end
        stops.append(focus.evaluate("e => (e.textContent || e.id).trim()"))
        assert focus.evaluate("e => getComputedStyle(e).outlineStyle") == "solid", stops
    order = ["API reference", "Readiness", "name", "Create", "email", "Send mail", "API key"]
    assert stops == order
    page.locator("#name").focus()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("Chair")
    page.keyboard.press("Enter")
    expect(row(page, "Chair")).to_have_class("succeeded")
    expect(page.locator("#name")).to_be_focused()


@one_backend
def test_everybody_can_read_it(installed: Project, tmp_path: Path, open_page: Open) -> None:
    with (
        mail_server() as mailbox,
        running(installed, tmp_path / "data", **mailbox.settings) as service,
    ):
        page = open_page(service)
        check(page)
        expect(create(page, "A<b>long</b>name" * 12)).to_have_class("succeeded")
        label = create(page, "שלום!").locator(".label")  # from right to left
        first, last = (label.evaluate(PLACE, letter) for letter in (0, 4))
        assert last < first
        mailbox.reply = "550 no such mailbox"
        expect(welcome(page, "nobody@example.com")).to_have_class("failed")
        mailbox.reply = "451 try again later"
        expect(welcome(page, "ada@example.com")).to_have_class("retrying")
        welcome(page, "nobody")
        page.get_by_text("API key", exact=True).click()
        schemes: list[Literal["light", "dark"]] = ["light", "dark"]
        for scheme, width in itertools.product(schemes, (1024, 320)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 700})
            check(page)
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            brightness = sum(map(int, paper.removeprefix("rgb(").removesuffix(")").split(",")))
            assert (brightness < 150) == (scheme == "dark"), paper


def check(page: Page) -> None:
    """See that nothing is too wide, and that axe-core finds nothing to complain of."""
    everything = "[...document.querySelectorAll(':not(input)')]"
    too_wide = f"{everything}.filter((e) => e.scrollWidth > innerWidth)"
    assert page.evaluate(f"{too_wide}.map((e) => e.tagName)") == []
    found = Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []


@one_backend
def test_it_runs_no_code_but_its_own(service: Service, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(service.url)
    violations = page.evaluate(
        """async () => {
          const blocked = [];
          document.addEventListener("securitypolicyviolation", (violation) =>
            blocked.push(violation.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          const style = document.createElement("style");
          const image = document.createElement("img");
          image.src = "http://127.0.0.1:9/";
          document.body.append(script, style, image);
          style.textContent = "body { display: none }";
          await fetch("http://127.0.0.1:9/").catch(() => {});
          for (let look = 0; new Set(blocked).size < 4 && look < 100; look++)
            await new Promise((resume) => setTimeout(resume, 100));
          return [window.ran, ...new Set(blocked.sort())];
        }"""
    )
    assert violations == [None, "connect-src", "img-src", "script-src-elem", "style-src-elem"]


@one_backend
@pytest.mark.parametrize(("site", "status"), [("http://evil.example/", 403), ("", 202)])
@pytest.mark.parametrize("host", ["127.0.0.1", "devbox.test"])
def test_a_form_of_another_site_starts_nothing(
    service: Service, browser: Browser, host: str, site: str, status: int
) -> None:
    page = browser.new_page()
    url = service.url.replace("127.0.0.1", host)
    form = f'<form method="post" action="{url}/items/?name=forged"></form>'
    # Of a page of the service, which a form's Origin depends on.
    policy = {"Referrer-Policy": service.client.get("/items/").headers["Referrer-Policy"]}
    own = {"content_type": "text/html", "body": form, "headers": policy}
    page.route(site or url, lambda route: route.fulfill(**own))
    page.goto(site or url)
    with page.expect_navigation() as navigation:
        page.evaluate("document.forms[0].submit()")
    assert navigation.value.status == status
    assert ("task_id" in page.content()) == (status == 202)


def test_without_a_task_it_shows_how_a_first_one_gets_its_form(
    bake: Bake, tmp_path: Path, open_page: Open
) -> None:
    project = bake(include_email_task=False, include_log_task=False)
    code = {block.splitlines()[0]: block for block in blocks(project, "python")}
    source, endpoint = (
        code[f"# src/{SLUG}/{name}"] for name in ("tasks/export.py", "api/reports.py")
    )
    add_task(project, "export", source, "reports", endpoint)
    project.sync()
    path = project.path / "src" / SLUG / "page" / "page.html"
    with running(project, tmp_path / "data") as service:
        page = open_page(service, viewport={"width": 320, "height": 700})
        check(page)
        form = page.locator("pre").inner_text()
        text = path.read_text("utf-8")
        before, _, after = text.partition("      <p>There is none yet")
        path.write_text(before + form + after.partition("</pre>")[2], "utf-8")
        page.reload()
        page.get_by_label("Report").fill("sales")
        page.get_by_role("button", name="Export").click()
        expect(row(page, "sales")).to_have_class("succeeded")
        expect(page.get_by_text("Accepted.")).to_be_visible()  # its endpoint has no message
        check(page)


def test_it_has_a_form_for_each_task(project: Project, variant: Variant) -> None:
    page = project.read(f"src/{SLUG}/page/page.html")
    chosen = {"items/": variant.log, "send-email/": variant.email}
    assert re.findall('<form action="(.*?)"', page) == [name for name in chosen if chosen[name]]


def test_any_name_and_description_is_text(bake: Bake) -> None:
    name = "O'Neil</title><script>1</script>\"&amp;🚀"
    description = f"</p>{name}"
    project = bake(project_name=name, project_slug=SLUG, project_short_description=description)
    text = project.read(f"src/{SLUG}/page/page.html")
    assert text.count("<script") == 1
    for tag, value in {"title": name, "h1": name, "p": description}.items():
        content = re.search(f"<{tag}>(.*?)</{tag}>", text)
        assert content
        assert html.unescape(content[1]) == value


@one_backend
def test_the_readmes_picture_can_be_made_anew(
    installed: Project, tmp_path: Path, open_page: Open
) -> None:
    """`make screenshots` keeps it; that the one which is kept looks the same, nobody checks."""
    picture = PICTURE if "SCREENSHOTS" in os.environ else tmp_path / "page.png"
    with (
        mail_server() as mailbox,
        running(installed, tmp_path / "data", **mailbox.settings, TASK_CONCURRENCY="1") as service,
    ):
        page = open_page(service, viewport={"width": 800, "height": 100}, device_scale_factor=1.25)
        expect(create(page, "Lamp")).to_have_class("succeeded")
        mailbox.reply = "550 no such mailbox"
        expect(welcome(page, "nobody@example.com")).to_have_class("failed")
        mailbox.reply = "451 try again later"
        healing = welcome(page, "mary@example.com")
        expect(healing).to_have_class("retrying")
        mailbox.reply = "250 OK"
        expect(healing).to_have_class("succeeded")
        mailbox.room = len(mailbox.mails)
        expect(welcome(page, "ada@example.com")).to_have_class("running")
        expect(welcome(page, "grace@example.com")).to_have_class("queued")
        heights = {status.bounding_box()["height"] for status in page.locator(".status").all()}  # type: ignore[index]
        assert len(heights) == 1, "a status takes two lines"
        page.screenshot(path=picture, full_page=True)
        mailbox.room += 2
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 150_000
