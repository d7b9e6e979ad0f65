"""Who may do what with the console: how a request came, and what follows."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.routing import Mount, Route

from chargehand.config.settings import AgentSettings, ConsoleSettings, Duration, Settings
from chargehand.console.access import (
    Access,
    Came,
    Failures,
    Right,
    Via,
    Who,
    from_elsewhere,
    is_local_name,
    right_of,
    user_of,
)
from chargehand.console.app import create_app
from chargehand.console.tokens import Keyring, new_token, parse_tokens, session_secret

ROOT_UID = 0
READER, ACTOR = new_token("reader", acts=False), new_token("actor", acts=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# whose they are\n\n{READER[1].line}\n{ACTOR[1].line}\n")
    path.chmod(0o600)
    return path


def access(file: Path | None = None, **console: object) -> Access:
    settings = ConsoleSettings(**console)  # type: ignore[arg-type]
    return Access(settings, Keyring(None if file is None else str(file)), b"secret")


# -- who asks -------------------------------------------------------------------------------------


def test_whoever_is_on_this_machine_reads() -> None:
    for host in ("127.0.0.1", "127.0.0.2", "::1"):
        assert access().who(Came(host), 0) == Who("local", False, Via.LOOPBACK, host)


def test_whoever_comes_from_elsewhere_is_nobody() -> None:
    assert access().who(Came("10.0.0.9"), 0) is None


def test_whoever_may_open_the_unix_socket_acts_under_their_own_name() -> None:
    who = access().who(Came("unix", ROOT_UID), 0)
    assert who == Who("root", True, Via.SOCKET, "unix:root")


def test_a_token_has_the_rights_of_its_line_wherever_it_comes_from(file: Path) -> None:
    for host in ("10.0.0.9", "127.0.0.1"):
        reader = access(file).who(Came(host, bearer=READER[0]), 0)
        actor = access(file).who(Came(host, bearer=ACTOR[0]), 0)
        assert reader is not None
        assert actor is not None
        assert (reader.name, reader.may(Right.READ), reader.may(Right.ACT)) == ("reader", True, False)
        assert (actor.name, actor.may(Right.READ), actor.may(Right.ACT)) == ("actor", True, True)


def test_a_wrong_token_is_nobody_even_where_none_is_needed(file: Path) -> None:
    assert access(file).who(Came("127.0.0.1", bearer="guessed"), 0) is None
    assert access().who(Came("127.0.0.1", bearer=ACTOR[0]), 0) is None


def behind() -> Access:
    """Behind proxies."""
    return access(proxies=["10.0.0.0/24", "unix:root"], user_header="X-Remote-User", actors=["ada"])


def test_a_proxy_says_who_asks() -> None:
    for came, source in ((("10.0.0.7", -1), "10.0.0.7"), (("unix", ROOT_UID), "unix:root")):
        ada = behind().who(Came(*came, headers={"x-remote-user": "ada"}), 0)
        bob = behind().who(Came(*came, headers={"x-remote-user": "bob"}), 0)
        assert ada == Who("ada", True, Via.PROXY, source)
        assert bob == Who("bob", False, Via.PROXY, source)


def test_a_proxy_that_says_nobody_is_nobody_and_not_the_user_of_its_process() -> None:
    assert behind().who(Came("unix", ROOT_UID), 0) is None
    assert behind().who(Came("10.0.0.7", headers={"x-remote-user": " "}), 0) is None


def test_what_is_no_proxy_is_not_believed() -> None:
    told = {"x-remote-user": "ada"}
    assert behind().who(Came("10.0.1.7", headers=told), 0) is None
    local = behind().who(Came("127.0.0.1", headers=told), 0)
    assert local is not None
    assert not local.acts


def test_the_journal_says_for_whom_a_proxy_asked() -> None:
    headers = {"x-remote-user": "ada", "x-forwarded-for": "192.0.2.1, 198.51.100.4"}
    ada = behind().who(Came("10.0.0.7", headers=headers), 0)
    assert ada is not None
    assert ada.source == "10.0.0.7 for 198.51.100.4"


# -- sessions -------------------------------------------------------------------------------------


def test_a_session_is_its_token_until_its_time_is_over(file: Path) -> None:
    rules = access(file, session=Duration(100))
    cookie = rules.session(ACTOR[1], 1000.0)
    known = rules.who(Came("10.0.0.9", session=cookie), 1099.0)
    assert known == Who("actor", True, Via.SESSION, "10.0.0.9")
    assert rules.who(Came("10.0.0.9", session=cookie), 1101.0) is None


def test_a_session_cannot_be_made_or_changed(file: Path) -> None:
    rules = access(file)
    until, signature, name = rules.session(READER[1], 1000.0).split(".")
    for made in (
        f"{until}.{signature}.actor",
        f"{int(until) + 1}.{signature}.{name}",
        f"{until}.{'0' * 64}.{name}",
        f"{until}.é.{name}",
        f"..{name}",
        "nothing",
        "",
    ):
        assert rules.who(Came("10.0.0.9", session=made), 1000.0) is None, made
    other = Access(ConsoleSettings(), Keyring(str(file)), b"another secret")
    assert other.who(Came("10.0.0.9", session=rules.session(READER[1], 1000.0)), 1000.0) is None


def test_who_loses_their_token_is_logged_out(file: Path) -> None:
    rules = access(file)
    cookie = rules.session(ACTOR[1], 1000.0)
    file.write_text(new_token("actor", acts=True)[1].line + "\n")
    assert rules.who(Came("10.0.0.9", session=cookie), 1000.0) is None
    file.write_text(READER[1].line + "\n")
    assert rules.who(Came("10.0.0.9", session=cookie), 1000.0) is None


def test_what_signs_sessions_is_kept(tmp_path: Path) -> None:
    first = session_secret(tmp_path)
    assert len(first) == 32
    assert session_secret(tmp_path) == first
    assert (tmp_path / "console.secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "console.secret").write_bytes(b"half")
    assert len(session_secret(tmp_path)) == 32
    assert len(session_secret(tmp_path / "nowhere")) == 32


def test_what_stands_in_forms_is_of_one_person_and_one_session(file: Path) -> None:
    rules = access(file)
    ada, bob = (Who(name, True, Via.PROXY, "") for name in ("ada", "bob"))
    made = {
        rules.csrf(Came("10.0.0.7"), ada),
        rules.csrf(Came("10.0.0.7"), bob),
        rules.csrf(Came("10.0.0.7", session="a"), ada),
        rules.csrf(Came("10.0.0.7"), None),
    }
    assert len(made) == 4


# -- the tokens file ------------------------------------------------------------------------------


def test_a_tokens_file_holds_no_token(file: Path) -> None:
    text = file.read_text()
    assert READER[0] not in text
    assert ACTOR[0] not in text


def test_what_is_wrong_with_a_tokens_file_is_told_without_what_may_be_a_token() -> None:
    tokens, problems = parse_tokens(f"ada act hunter2\n{READER[1].line}\n{READER[1].line}\nbob all sha256$a$b\n")
    assert [token.name for token in tokens] == ["reader"]
    assert [line.partition(" is ")[0].partition(":")[0] for line in problems] == ["line 1", "line 3", "line 4"]
    assert "hunter2" not in "".join(problems)


def test_a_tokens_file_that_others_can_read_counts_for_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = Keyring(str(file))
    assert ring.find(ACTOR[0]) == ACTOR[1]
    file.chmod(0o604)
    assert ring.find(ACTOR[0]) is None
    assert ring.find(ACTOR[0]) is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "chmod o=" in caplog.text
    file.chmod(0o640)
    assert ring.find(ACTOR[0]) == ACTOR[1]


# -- what a browser is led to send ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "elsewhere"),
    [
        ({"host": "a:1"}, False),
        ({"host": "a:1", "origin": "http://a:1"}, False),
        ({"host": "a:1", "origin": "http://b"}, True),
        ({"host": "a:1", "origin": "null"}, True),
        ({"host": "a:1", "origin": "http://b", "sec-fetch-site": "same-origin"}, False),
        ({"host": "a:1", "origin": "http://a:1", "sec-fetch-site": "cross-site"}, True),
        ({"host": "a:1", "sec-fetch-site": "same-site"}, True),
        ({"host": "a:1", "sec-fetch-site": "none"}, False),
    ],
)
def test_a_page_of_another_site_is_known_by_what_its_browser_says(headers: dict[str, str], *, elsewhere: bool) -> None:
    assert from_elsewhere(headers) is elsewhere


@pytest.mark.parametrize("host", ["localhost", "localhost:8460", "127.0.0.1:1", "127.9.9.9", "[::1]:8460", "[::1]"])
def test_these_name_this_machine_to_itself(host: str) -> None:
    assert is_local_name(host)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8460", "10.0.0.1", "localhost.evil.example", "[::2]:1"])
def test_these_do_not(host: str) -> None:
    assert not is_local_name(host)


# -- how often ------------------------------------------------------------------------------------


def test_who_is_wrong_too_often_waits_and_others_do_not() -> None:
    failures = Failures(most=3, seconds=60)
    assert [failures.failed("a", float(now)) for now in range(5)] == [False, False, False, True, True]
    assert failures.too_many("a", 5.0)
    assert not failures.too_many("b", 5.0)
    assert not failures.too_many("a", 70.0)


def test_what_is_remembered_of_strangers_is_bounded() -> None:
    failures = Failures(most=1)
    for number in range(3000):
        failures.failed(str(number), float(number) / 1e6)
    assert failures.too_many("2999", 0.01)
    assert not failures.too_many("0", 0.01)


# -- every route ----------------------------------------------------------------------------------


def every(settings: Settings) -> list[tuple[str, str]]:
    """(method, path) of all that the console answers."""
    found: list[tuple[str, str]] = []

    def walk(routes: object, before: str) -> None:
        for route in routes:  # type: ignore[attr-defined]
            if isinstance(route, Mount):
                walk(route.routes, before + route.path) if route.routes else found.append(
                    ("GET", f"{before}{route.path}/")
                )
            else:
                assert isinstance(route, Route)
                found.extend((method, before + route.path) for method in route.methods or {"GET"})

    walk(create_app(settings).routes, "")
    return found


def test_no_route_is_without_a_right(tmp_path: Path) -> None:
    settings = Settings(agent=AgentSettings(state_dir=str(tmp_path)))
    rights = {(method, path): right_of(method, path) for method, path in every(settings)}
    assert {key for key, right in rights.items() if right is Right.OPEN} == {
        ("GET", "/login"),
        ("HEAD", "/login"),
        ("POST", "/login"),
        ("POST", "/logout"),
        ("GET", "/static/"),
    }
    assert {method for (method, _), right in rights.items() if right is Right.READ} == {"GET", "HEAD"}
    acts = {path for (_, path), right in rights.items() if right is Right.ACT}
    assert {"/api/v1/plans", "/api/v1/plans/{plan}/cancel", "/api/v1/recurring/{name}"} <= acts
    assert right_of("GET", "/login/../plans") is Right.READ
    assert right_of("PATCH", "/whatever/comes") is Right.ACT


def test_a_user_that_is_gone_is_told_by_number() -> None:
    assert user_of(4_000_000) == "uid 4000000"
