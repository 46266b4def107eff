"""A worker for texts: says which label each has, how alike they are, and learns as labels become known.

    [service.tickets]
    command = ["python", "-m", "mlports_models.text"]
    config = { labels = ["billing", "fault", "praise"] }

    await orch.call("tickets.learn", ["It does not start", "Thank you"], ["fault", "praise"])
    await orch.call("tickets.predict", "The screen stays dark")

A linear classifier of scikit-learn's (SGDClassifier) over the words of the texts. The service's `config`, all optional:

- `features`: "hashing" (the default: nothing has to be known of the texts) or "tfidf" (words weighed by how rare they
  are, which only `fit` learns).
- `labels`: all labels that there will be, texts or whole numbers. Left out, they are those of the first `learn`.
- `width`: to how many features the words are hashed (default: 65,536), or how many words tfidf keeps at most.
- `words`: how many words in a row are a feature, as in [1, 2] (default: [1, 1]).
- `analyzer`: "word", "char" or "char_wb" (parts of words), as in scikit-learn (default: "word").
- `loss`: "log_loss" (the default), or another of SGDClassifier's: most of those have no probabilities.
- `alpha`: how strongly weights are drawn to 0 (default: 0.0001). `seed`: of the order of learning (default: 0).
- `dimensions`: the length of what `embed` gives (default: 256).
- `longest`: characters that a text may have (default: 2,000,000). `most`: texts to `remember` (default: 10,000).
- `snapshot`: see docs/snapshots.md. What is kept is all that was learned and remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .text_model import TextModel

worker = Worker("text")
_model: TextModel


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports scikit-learn and checks the config. Ends the worker, with the reason, if it cannot be used."""
    global _model
    settings.need("text", "text", numpy="numpy", sklearn="scikit-learn")
    from .text_model import TextModel

    _model = TextModel(config)


@worker.method
def fit(texts: Any, labels: Any) -> dict[str, Any]:
    """Learns afresh from these texts alone, in several rounds, and gives `info()`. One that fails changes nothing."""
    return _model.fit(texts, labels)


@worker.method
def learn(texts: Any, labels: Any) -> dict[str, Any]:
    """Goes on learning, by one step for each text, and gives `info()`. Texts that cannot be learned change nothing."""
    return _model.learn(texts, labels)


@worker.method(batch=True, idempotent=True)
def predict(texts: list[Any]) -> list[Any]:
    """The label of a text, or a list of them for a list of texts."""
    return _model.predict(texts)


@worker.method(batch=True, idempotent=True)
def predict_proba(texts: list[Any]) -> list[Any]:
    """The labels' probabilities for a text, in the order of `info()["labels"]`; a row of them for each of a list."""
    return _model.predict(texts, probabilities=True)


@worker.method(batch=True, idempotent=True)
def embed(texts: list[Any]) -> list[Any]:
    """A text as a vector of `dimensions` numbers of length 1, or 0 where it has no words; for a list, a row for each.

    Words are hashed, so it is the same in every worker, whatever was learned. The dot product is how alike two are.
    """
    return _model.embed(texts)


@worker.method
def remember(keys: Any, texts: Any) -> int:
    """Remembers texts for `nearest`, in place of what was known by the same key. Gives how many are known now."""
    return _model.remember(keys, texts)


@worker.method
def forget(keys: Any) -> int:
    """Forgets texts by their keys; unknown ones do not matter. Gives how many are left."""
    return _model.forget(keys)


@worker.method(idempotent=True)
def nearest(text: Any, count: Any = 5) -> list[dict[str, Any]]:
    """Of the remembered texts those most alike: [{key, similarity}], the most alike first, no more than `count`.

    The similarity is the cosine of the features, from 0 for no word in common to 1.
    """
    return _model.nearest(text, count)


@worker.method(idempotent=True)
def info() -> dict[str, Any]:
    """The kind of features and how many, the labels, how many texts were learned, and how many are remembered."""
    return _model.info()


@worker.snapshot
def keep() -> dict[str, Any]:
    """What a crash leaves."""
    return _model.state()


@worker.restore
def take(state: Any) -> None:
    """Goes on from it."""
    _model.take(state)


if __name__ == "__main__":
    worker.run()
