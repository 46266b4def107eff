"""A worker killed again and again, restarted as OTP would, and given up as OTP would, beside OTP itself.

python -m examples.supervision
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from mlports import Config, load_config
from mlports.tree import ROOT, plan

from ..options import whole
from .in_python import config as config_in_python
from .killing import Story, torment
from .otp import Otp, escript
from .simulating import every, gives_up_at

CONFIG = Path(__file__).with_name("mlports.toml")


def say_tree(config: Config) -> None:
    branch = plan(config)[ROOT]
    flags, child = branch.flags, branch.specs[0]
    print(f"  supervisor: {flags.strategy}, intensity {flags.intensity}, period {flags.period}")
    print(f"  child {child.id}: {child.restart}, shutdown {child.shutdown}, {child.type}")


async def run(config: Config, gently: int) -> tuple[Story, Otp | None]:
    """`torment`, with OTP's supervisor beside it where there is one."""
    async with AsyncExitStack() as stack:
        program = escript()
        otp = await stack.enter_async_context(Otp(program)) if program is not None else None
        return await torment(config, gently, otp), otp


def problems(config: Config, story: Story, otp: Otp | None) -> list[str]:
    """What did not hold of what this example is to show."""
    told = []
    gave_up = len(story.deaths) if story.gave_up else None
    if gave_up is None or gave_up != gives_up_at(config, story.deaths):
        told.append(f"the supervisor gave up at death {gave_up}, the simulation at {gives_up_at(config, story.deaths)}")
    if otp is not None:
        # Asked about its own seconds: where kills take long, theirs and ours may lie on two sides of a limit.
        gave_up = len(otp.deaths) if otp.ended else None
        if gave_up != gives_up_at(config, otp.deaths):
            told.append(f"OTP gave up at death {gave_up}, the simulation at {gives_up_at(config, otp.deaths)}")
    if story.answers != [3 * x + 1 for x in range(len(story.answers))]:
        told.append(f"the worker answered {story.answers}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.supervision", description=__doc__)
    help = "how many times it may answer a call before it is killed; then it is killed when it was just started"
    parser.add_argument("--gently", type=whole(0), default=3, help=help)
    options = parser.parse_args()
    show(options.gently)


def show(gently: int) -> None:
    config = load_config(CONFIG)
    if plan(config) != plan(config_in_python()):
        sys.exit("it did not hold: mlports.toml and in_python.py make different trees")
    print("mlports.toml and in_python.py make the same tree:")
    say_tree(config)
    print("the worker is killed, by SIGKILL:")
    story, otp = asyncio.run(run(config, gently))
    print(f"  between the kills it answered {len(story.answers)} calls; afterwards a caller hears")
    print(f"  {story.refused}")
    if otp is not None:
        print(f"OTP's supervisor, its child killed at the same moments: {', '.join(otp.did)}")
    else:
        print("OTP's supervisor was not asked: there is no escript on PATH")
    print(f"the simulation, with a death at the same times: gives up at death {gives_up_at(config, story.deaths)}")
    for seconds in (2.0, 2.2):
        end = gives_up_at(config, every(seconds))
        what = "goes on for ten minutes" if end is None else f"gives up at death {end}"
        print(f"the simulation, with a death every {seconds:g} s: {what}")
    if told := problems(config, story, otp):
        sys.exit("it did not hold: " + "; ".join(told))


if __name__ == "__main__":
    main()
