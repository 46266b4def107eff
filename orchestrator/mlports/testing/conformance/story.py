"""Why a program could not be talked with, told once and for people."""

from __future__ import annotations

from mlports.testing.conformance.conversation import Conversation
from mlports.testing.conformance.failures import Failed
from mlports.testing.conformance.transcript import shortened

_LAST_WORDS = 0.5  # seconds that a program has, once its input has ended, to say what it kept to itself
_LINES = 8


def why_no_handshake(talk: Conversation, failed: Failed, start_timeout: float) -> str:
    """The story of a first `$/hello` that led to nothing. The process may still run."""
    lines = [_what(talk, failed, start_timeout)]
    came = [piece for piece in talk.transcript.since(0, 20) if not piece.sent]
    if came:
        lines.append(f"It wrote: {came[0].hex}")
    said = [line for line in talk.stderr().splitlines() if line.strip()][-_LINES:]
    if said:
        lines += ["It said on standard error:", *(f"  {shortened(line)}" for line in said)]
    return "\n".join(lines)


def _what(talk: Conversation, failed: Failed, start_timeout: float) -> str:
    told = failed.came
    if talk.greeted:
        return (
            f"It answered $/hello with an error, as a bare worker does, and then not as it must: expected "
            f"{failed.expected}; came {told} (SPEC.md {failed.section or '5.5, 6.1'})."
        )
    if "'$/hello'" in told and "a request" not in told:
        return "It sent our $/hello back, as cat does: it does not speak the protocol (SPEC.md 5, Appendix B)."
    if told.startswith("StdoutPolluted"):
        return (
            f"It printed text on standard output, where its answer to $/hello was due ({told}). Standard output "
            "carries frames and nothing else: print on standard error, and take descriptor 1 before anything that "
            "prints is loaded (SPEC.md 1.6)."
        )
    if failed.late:
        return _silence(talk, start_timeout)
    if "ended" in told:
        return (
            f"It did not answer $/hello: {told}. A worker reads frames from standard input until that ends "
            "(SPEC.md 5, 11.2)."
        )
    where = failed.section or "2, 5"
    return f"What it sent for $/hello is no answer: expected {failed.expected}; came {told} (SPEC.md {where})."


def _silence(talk: Conversation, start_timeout: float) -> str:
    unread = talk.process.unread()
    talk.close_input()
    try:
        talk.quiet(_LAST_WORDS)
        came = any(not piece.sent for piece in talk.transcript.since(0, 20))
    except Failed:
        came = True
    waited = f"It did not answer $/hello within {start_timeout:g} s"
    if came:
        return f"{waited}, and wrote something only when its input had ended: flush after each frame (SPEC.md 1.3)."
    if unread:
        return f"{waited}, and never read it: {unread} bytes still wait in its standard input (SPEC.md 1.3)."
    talk.process.wait_status(_LAST_WORDS)
    return (
        f"{waited}, though it read it. A worker answers each request; one that does not know $/hello answers an error "
        "(SPEC.md 5.5). If it only takes long to start, say so: --start-timeout SECONDS."
    )
