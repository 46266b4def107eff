"""Makes a model from scratch: one film, step by step, then many films with several inputs and outputs.

python -m examples.from_scratch
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import mlports

from ..findings import keep
from ..movies import Movie, movies
from ..pictures import picture
from .drawing import draw
from .many import INPUTS, OUTPUTS, learn

CONFIG = Path(__file__).with_name("mlports.toml")


def one_film(orch: Any, movie: Movie) -> dict[str, Any]:
    """What a film cost, times a weight, is to be what it brought in: each step of the way."""
    steps = list(orch.stream("film.trace", movie.budget, movie.gross))
    guess = 2.5
    return {
        "title": movie.title,
        "budget": movie.budget,
        "gross": movie.gross,
        "weights": [step["weight"] for step in steps],
        "errors": [step["error"] for step in steps],
        "run(100_000, 2.5)": orch.call("film.run", 100_000, guess),
        "learned": orch.call("film.run", movie.budget),
    }


def holds(found: dict[str, Any]) -> bool:
    """Whether one film is learned to the dollar, and many as well as scikit-learn learns them."""
    one, many = found["film"], found["films"]
    return bool(one["errors"][-1] == 0 and one["learned"] == one["gross"] and many["settled"] and many["away"] < 1e-9)


def tell(found: dict[str, Any]) -> None:
    """Prints it."""
    one, many = found["film"], found["films"]
    weights = one["weights"]
    print(f"{one['title']}: {one['budget']:,} dollars, and it brought in {one['gross']:,}")
    print("  weight:", " → ".join(str(weight) for weight in [*weights[:3], "…", *weights[-2:]]))
    print(f"  after {len(weights) - 1} steps the error is {one['errors'][-1]}, and it stops")
    ways = f"{', '.join(INPUTS)} → {', '.join(OUTPUTS)}"
    print(f"{many['learned from']:,} films, {ways}; {many['left out']:,} more miss a value")
    print(f"  {many['steps']} steps; {many['away']:.0e} away from scikit-learn's LinearRegression at most")
    for name, known, new in zip(OUTPUTS, many["explained"], many["explained of new ones"], strict=True):
        print(f"  {name}: {known:.1%} explained, {new:.1%} of {many['new']} films that are new to it")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.from_scratch", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where the picture and findings.json go")
    out: Path = parser.parse_args().out
    table = movies()
    mad_max = next(movie for movie in table if movie.title == "Mad Max")
    with mlports.open(CONFIG) as orch:
        found = {"film": one_film(orch, mad_max), "films": learn(orch, table)}
    tell(found)
    picture(out / "from_scratch.png", lambda figure: draw(figure, found["film"]), size=(10, 4))
    keep(found, out)
    if not holds(found):
        sys.exit("it does not hold: what was learned is not what it has to be")


if __name__ == "__main__":
    main()
