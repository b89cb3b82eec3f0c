"""What a run of the tests leaves out: told in one line, and an error with `--complete`."""

from __future__ import annotations

from collections import Counter

import pytest

ALLOWED = ("graphics card", "../shared")


def pytest_addoption(parser: pytest.Parser) -> None:
    words = f"fail if a test is skipped whose reason names none of: {', '.join(ALLOWED)}"
    parser.addoption("--complete", action="store_true", help=words)


def count_reasons(config: pytest.Config) -> Counter[str]:
    """Return how many tests were skipped for which reason; nothing in a process of pytest-xdist."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    return Counter(each.longrepr[2].removeprefix("Skipped: ") for each in skipped)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reasons = count_reasons(config)
    told = [f"{count} tests, {why}" for why, count in reasons.most_common()]
    if told:
        terminalreporter.line(f"Left out: {'; '.join(told)}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    wrong = [why for why in count_reasons(session.config) if not any(each in why for each in ALLOWED)]
    if wrong and session.config.option.complete and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
