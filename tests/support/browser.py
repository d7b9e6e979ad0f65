"""The console as people use it: looked at in the system's own Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from chargehand.console.tokens import new_token
from support.programs import Program, write_config
from support.server import free_port

__all__ = ["Console", "Visit", "chromium", "visit"]

_CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
_PATIENCE = 60_000  # ms: a slow machine

expect.set_options(timeout=_PATIENCE)


class Console:
    """The console's own process, on a port of loopback. `tokens`: of ada, who may act, and of rita, who may read."""

    def __init__(self, directory: Path, url: str, *, extra: str = "") -> None:
        made = {name: new_token(name, acts=name == "ada") for name in ("ada", "rita")}
        self.tokens = {name: text for name, (text, _) in made.items()}
        kept = directory / "tokens"
        kept.write_text("".join(f"{token.line}\n" for _, token in made.values()))
        kept.chmod(0o600)
        place = f"127.0.0.1:{free_port()}"
        self.url = f"http://{place}"
        tables = f'[console]\nenabled = true\nlisten = ["{place}"]\ntokens_file = "{kept}"\n{extra}'
        self._program = Program(directory, write_config(directory, url, node="node-web", extra=tables), "console")
        try:
            self._program.ready()
        except BaseException:
            self._program.stop()
            raise

    def stop(self) -> None:
        self._program.stop()


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_ARGUMENTS))
        yield browser
        browser.close()


class Visit:
    """Somebody at the console, in a browser of their own."""

    def __init__(self, context: BrowserContext, console: Console) -> None:
        self.console = console
        self.context = context
        self.page = context.new_page()
        self.page.set_default_timeout(_PATIENCE)
        self.complaints: list[str] = []  # errors on the browser's console: of scripts, and of what the CSP refused
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))

    def _heard(self, message: ConsoleMessage) -> None:
        # That a page came with 4xx or 5xx is said there too, and is no fault of the page.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def go(self, path: str) -> Page:
        self.page.goto(self.console.url + path)
        return self.page

    def sign_in(self, name: str) -> None:
        page = self.go("/login")
        page.get_by_label("Token").fill(self.console.tokens[name])
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Overview").wait_for()

    def heading(self, text: str) -> None:
        self.page.get_by_role("heading", name=text, exact=True).wait_for()


@contextmanager
def visit(
    browser: Browser,
    console: Console,
    name: str = "",
    *,
    scripts: bool = True,
    dark: bool = False,
    width: int = 1280,
) -> Iterator[Visit]:
    """`name`: who has signed in; empty: nobody. The browser must have had nothing to complain about."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
    )
    try:
        one = Visit(context, console)
        if name:
            one.sign_in(name)
        yield one
        assert one.complaints == []
    finally:
        context.close()
