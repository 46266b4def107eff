"""A stream trains a model that clients ask over HTTP: nobody misses an answer, and what fails has HTTP's own codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlports_protocol import CODES
from tests.extras import need

need("numpy", "river", "aiohttp")

import aiohttp  # noqa: E402

from examples.hybrid.__main__ import story, troubles  # noqa: E402
from examples.hybrid.statuses import STATUS, reply_to  # noqa: E402
from examples.hybrid.stream import prepared, rows  # noqa: E402
from examples.hybrid.trial import LEAVING, hybrid, live, too_much  # noqa: E402
from examples.hybrid.truth import wrong  # noqa: E402
from mlports import CallError, Overloaded, ServiceDown  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


async def test_a_kill_and_a_burst_take_no_answer_from_anybody() -> None:
    async with hybrid() as (orch, url):
        found = await live(orch, url, rows()[:250], clients=10, asked=60, taught=400, kills=1)
        await too_much(orch, url, found, 120)
    assert troubles(found, least_area=0.9) == []
    assert len(found.expected) == 250
    assert (len(found.killed_at), found.dropped) == (1, LEAVING)
    assert found.retried >= 1  # the kill was under somebody's request
    assert {answer.status for answer in found.refusals} == {429}
    assert "killed: 1 times" in story(found)
    # What is checked can be wrong.
    spoilt = [found.answers[0]._replace(score=0.123), *found.answers[1:]]
    assert wrong(spoilt, found.taught) == 1
    found.expected.pop()
    assert len(troubles(found, least_area=0.0)) == 1


async def test_what_fails_is_told_in_http_s_own_words() -> None:
    site = prepared(rows()[0]).site
    async with hybrid() as (_, url), aiohttp.ClientSession() as http:

        async def post(path: str, body: Any) -> tuple[int, str | None]:
            data = body if isinstance(body, bytes) else None
            async with http.post(url + path, data=data, json=body if data is None else None) as response:
                answer = await response.json()
                assert answer.keys() == ({"result"} if response.status == 200 else {"error"})
                return response.status, answer.get("error", {}).get("code")

        assert await post("/sites/judge", {"params": [site], "timeout": 20}) == (200, None)
        assert await post("/sites/judge", {"params": [["a"]]}) == (400, "invalid_argument")
        assert await post("/sites/judge", {"params": []}) == (400, "invalid_argument")
        assert await post("/sites/nought", {"params": []}) == (501, "unimplemented")
        assert await post("/nought/judge", {"params": []}) == (404, "not_found")
        assert await post("/nought", {}) == (404, "not_found")
        assert await post("/sites/judge", {"params": [site], "timeout": 1e-9}) == (504, "deadline_exceeded")
        for body in (b"{", b"\xff", b"[]", b"[" * 100_000, b'{"params": 1}', b'{"timeout": NaN}', b'{"more": 1}'):
            assert await post("/sites/judge", body) == (400, "invalid_argument")
        async with http.get(f"{url}/sites/judge") as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
        async with http.get(f"{url}/health") as response:
            assert (response.status, await response.json()) == (200, {"ready": {"sites": True}})


def test_each_code_has_a_status() -> None:
    assert STATUS.keys() == set(CODES)
    assert reply_to(CallError("?", code="of a later version")).status == 500


@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (Overloaded("full", retryable=True, retry_after=0.02), 429, "1"),
        (Overloaded("full", retryable=True, retry_after=2.1), 429, "3"),
        (ServiceDown("was not sent", retryable=True), 503, "1"),
        (ServiceDown("is down"), 503, None),
    ],
)
def test_a_client_is_told_when_to_come_back_if_it_may(error: CallError, status: int, after: str | None) -> None:
    reply = reply_to(error)
    assert (reply.status, reply.headers.get("Retry-After")) == (status, after)
    assert reply.body["error"]["retryable"] == (after is not None)


@pytest.mark.soak
def test_the_program_draws_what_it_found(tmp_path: Path) -> None:
    """In a process of its own: matplotlib keeps the files of its fonts open."""
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'mlports[examples]'")
    command = [sys.executable, "-m", "examples.hybrid", "--burst", "120", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "every one answered 200" in done.stdout
    assert (tmp_path / "hybrid.png").read_bytes().startswith(b"\x89PNG")
