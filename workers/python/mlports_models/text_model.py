"""What the text worker does: features of texts, a linear classifier of them, and the texts that it remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import SGDClassifier

from mlports_worker import Failure

from . import settings
from .rows import Array

_CONFIG = {
    "features": (str,),
    "labels": (list,),
    "width": (int,),
    "words": (list,),
    "analyzer": (str,),
    "loss": (str,),
    "alpha": (int, float),
    "seed": (int,),
    "dimensions": (int,),
    "longest": (int,),
    "most": (int,),
}
_LIMITS = {
    "width": (1, 2**24),
    "alpha": (1e-12, 1e6),
    "seed": (0, 2**32 - 1),
    "dimensions": (1, 2**16),
    "longest": (1, 2**30),
    "most": (1, 10_000_000),
}
_DEFAULTS: dict[str, Any] = {
    "features": "hashing",
    "width": 2**16,
    "words": [1, 1],
    "analyzer": "word",
    "loss": "log_loss",
    "alpha": 0.0001,
    "seed": 0,
    "dimensions": 256,
    "longest": 2_000_000,
    "most": 10_000,
}
_CHOICES = {
    "features": ("hashing", "tfidf"),
    "analyzer": ("word", "char", "char_wb"),
    "loss": ("log_loss", "modified_huber", "hinge", "squared_hinge", "perceptron"),
}
_KEPT = ("features", "width", "words", "analyzer", "loss")  # with others, a snapshot means something else

Label = str | int


class TextModel:
    """A classifier of texts, and an index of some. `config` is the service's (see `text`); raises `Failure`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._settings = _checked(config)
        self._labels = _label_list(config["labels"], "config: labels") if "labels" in config else None
        if self._labels is not None and len(self._labels) < 2:
            raise _invalid(f"config: labels are two at least, not {self._labels!r:.80}")
        self._classifier = self._fresh()
        self._vectorizer: Any = self._hashing(self._settings["width"]) if self._hashed else None
        self._embedder = self._hashing(self._settings["dimensions"])
        self._learned = 0
        self._texts: dict[Label, str] = {}
        self._index: Any = None  # the remembered texts' features, once they are asked for

    # -- learning

    def fit(self, texts: Any, labels: Any) -> dict[str, Any]:
        """See `text.fit`."""
        given, answers = self._examples(texts, labels, self._labels)
        without = [label for label in self._labels or () if label not in answers]
        if without:
            raise _invalid(f"fit needs a text of each label, and has none of {', '.join(map(repr, without[:20]))}")
        vectorizer = self._vectorizer
        if not self._hashed:
            vectorizer = self._tfidf()
            try:
                vectorizer.fit(given)
            except ValueError as error:  # no word in any of them
                raise _invalid(f"these texts give no features: {error}") from error
        classifier = self._fresh()
        classifier.fit(vectorizer.transform(given), answers)
        self._classifier, self._vectorizer, self._index = classifier, vectorizer, None
        self._learned = len(given)
        return self.info()

    def learn(self, texts: Any, labels: Any) -> dict[str, Any]:
        """See `text.learn`."""
        known = self._known()
        given, answers = self._examples(texts, labels, known)
        features = self._features(given)
        classes = known if known is not None else _distinct(answers)
        self._classifier.partial_fit(features, answers, classes=np.asarray(classes))
        self._learned += len(given)
        return self.info()

    # -- answering

    def predict(self, values: list[Any], *, probabilities: bool = False) -> list[Any]:
        """The outcomes of `predict` or `predict_proba`, one for each caller, in order."""
        if self._known_by_classifier() is None:
            raise Failure("failed_precondition", "nothing was learned yet: fit(texts, labels) or learn(texts, labels)")
        if not probabilities:
            return self._each(values, lambda texts: self._classifier.predict(self._features(texts)).tolist())
        if not hasattr(self._classifier, "predict_proba"):
            raise Failure(
                "unimplemented",
                f"the loss {self._settings['loss']!r} has no probabilities: configure log_loss or modified_huber",
            )
        return self._each(values, lambda texts: self._classifier.predict_proba(self._features(texts)))

    def embed(self, values: list[Any]) -> list[Any]:
        """The outcomes of `embed`, one for each caller, in order."""
        return self._each(values, lambda texts: self._embedder.transform(texts).toarray())

    def remember(self, keys: Any, texts: Any) -> int:
        """See `text.remember`."""
        single = isinstance(texts, str)
        named = _keys([keys] if single else keys)
        given = self._listed([texts] if single else texts)
        if len(named) != len(given):
            raise _invalid(f"there are {len(named)} keys, and {len(given)} texts")
        after = self._texts | dict(zip(named, given, strict=True))
        if len(after) > self._settings["most"]:
            raise Failure(
                "resource_exhausted",
                f"this would be {len(after):,} texts, and the config's most is {self._settings['most']:,}: forget "
                "some, or configure more",
            )
        self._texts, self._index = after, None
        return len(after)

    def forget(self, keys: Any) -> int:
        """See `text.forget`."""
        gone = set(_keys(keys if isinstance(keys, list) else [keys]))
        self._texts = {key: text for key, text in self._texts.items() if key not in gone}
        self._index = None
        return len(self._texts)

    def nearest(self, text: Any, count: Any) -> list[dict[str, Any]]:
        """See `text.nearest`."""
        if type(count) is not int or count < 1:
            raise _invalid(f"count is a whole number from 1, not {count!r:.80}")
        features = self._features([self._text(text, "the text")])
        if not self._texts:
            return []
        if self._index is None:
            self._index = self._features(list(self._texts.values()))
        alike = (self._index @ features.T).toarray().ravel()  # both have length 1
        keys = list(self._texts)
        best = np.argsort(-alike, kind="stable")[:count]
        return [{"key": keys[place], "similarity": float(alike[place])} for place in best]

    def info(self) -> dict[str, Any]:
        """See `text.info`."""
        vectorizer = self._vectorizer
        width = self._settings["width"] if self._hashed else None if vectorizer is None else len(vectorizer.vocabulary_)
        return {
            "features": self._settings["features"],
            "width": width,
            "labels": self._known(),
            "learned": self._learned,
            "remembered": len(self._texts),
            "dimensions": self._settings["dimensions"],
        }

    # -- snapshots

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps, for `take`."""
        model, words = self._classifier, None if self._hashed else self._vectorizer
        learned = self._known_by_classifier() is not None
        return {
            "settings": {key: self._settings[key] for key in _KEPT},
            "learned": self._learned,
            "labels": self._known_by_classifier(),
            "weights": [model.coef_, model.intercept_, model.t_] if learned else None,
            "words": None if words is None else [words.get_feature_names_out().tolist(), words.idf_],
            "texts": [list(self._texts), list(self._texts.values())],
        }

    def take(self, state: Any) -> None:
        """Goes on from a snapshot. Raises `Failure` for one of other settings."""
        now = {key: self._settings[key] for key in _KEPT}
        labels = state["labels"]
        if state["settings"] != now or (self._labels is not None and labels is not None and labels != self._labels):
            raise Failure(
                "failed_precondition",
                f"the snapshot was made with {state['settings']} and the labels {labels!r:.200}, and the config says "
                f"{now} and {self._labels!r:.200}: configure those, or remove the snapshot to begin anew",
            )
        if labels is not None:
            self._classifier.classes_ = np.asarray(labels)
            weights, constants, steps = state["weights"]
            self._classifier.coef_, self._classifier.intercept_ = np.array(weights), np.array(constants)
            self._classifier.t_, self._classifier.n_features_in_ = steps, weights.shape[1]
        if state["words"] is not None:
            words, rarity = state["words"]
            self._vectorizer = self._tfidf(words)
            self._vectorizer.idf_ = np.array(rarity)
        self._learned = state["learned"]
        self._texts = dict(zip(*state["texts"], strict=True))

    # -- its parts

    @property
    def _hashed(self) -> bool:
        return bool(self._settings["features"] == "hashing")

    def _fresh(self) -> Any:
        of = self._settings
        return SGDClassifier(loss=of["loss"], alpha=of["alpha"], random_state=of["seed"])

    def _hashing(self, width: int) -> Any:
        of = self._settings
        return HashingVectorizer(n_features=width, ngram_range=tuple(of["words"]), analyzer=of["analyzer"])

    def _tfidf(self, words: list[str] | None = None) -> Any:
        of = self._settings
        return TfidfVectorizer(
            max_features=of["width"], ngram_range=tuple(of["words"]), analyzer=of["analyzer"], vocabulary=words
        )

    def _features(self, texts: list[str]) -> Any:
        if self._vectorizer is None:
            raise Failure("failed_precondition", "tfidf knows no words yet: fit(texts, labels) comes first")
        return self._vectorizer.transform(texts)

    def _known_by_classifier(self) -> list[Label] | None:
        classes: Array | None = getattr(self._classifier, "classes_", None)
        return None if classes is None else classes.tolist()

    def _known(self) -> list[Label] | None:
        """The labels that there can be, if that is settled."""
        found = self._known_by_classifier()
        return self._labels if found is None else found

    def _each(self, values: list[Any], answer: Any) -> list[Any]:
        """What each caller gets, whose value is a text or a list of them; all good ones are answered together."""
        outcomes: list[Any] = [None] * len(values)
        texts: list[str] = []
        places: list[tuple[int, int, int, bool]] = []
        for index, value in enumerate(values):
            single = not isinstance(value, list)
            try:
                own = [self._text(value, "the text")] if single else self._listed(value)
            except Failure as failure:
                outcomes[index] = failure
            else:
                places.append((index, len(texts), len(texts) + len(own), single))
                texts += own
        found = answer(texts) if texts else []
        for index, start, end, single in places:
            outcomes[index] = found[start] if single else found[start:end]
        return outcomes

    def _examples(self, texts: Any, labels: Any, known: list[Label] | None) -> tuple[list[str], list[Label]]:
        single = isinstance(texts, str)
        given = self._listed([texts] if single else texts)
        answers = [labels] if single else labels.tolist() if isinstance(labels, np.ndarray) else labels
        if not isinstance(answers, list) or len(answers) != len(given):
            count = len(answers) if isinstance(answers, list) else "no list of"
            raise _invalid(f"there are {len(given)} texts, and {count} labels")
        if not given:
            raise _invalid("there are no texts to learn from")
        if known is None:
            distinct = _label_list(_distinct(answers), "labels")
            if len(distinct) < 2:
                raise _invalid(
                    f"all labels are {distinct[0]!r:.80}. Texts of two labels at least come first, or the config's "
                    "labels names all that there will be"
                )
        else:
            unseen = [label for label in _distinct(answers) if label not in known or type(label) is not type(known[0])]
            if unseen:
                raise Failure(
                    "invalid_argument",
                    f"{', '.join(f'{label!r:.80}' for label in unseen[:5])}: no such label is known. There are: "
                    f"{', '.join(map(repr, known[:20]))}. Have the config's labels name all that there will be, and "
                    "learn from the beginning",
                    data={"unseen": unseen, "labels": known},
                )
        return given, answers

    def _listed(self, texts: Any) -> list[str]:
        if not isinstance(texts, list):
            raise _invalid(f"texts are a list of texts, not {texts!r:.80}")
        return [self._text(text, f"text {number}") for number, text in enumerate(texts)]

    def _text(self, value: Any, what: str) -> str:
        if not isinstance(value, str):
            raise _invalid(f"{what} is {value!r:.80}, a {type(value).__name__}, not a text")
        if len(value) > self._settings["longest"]:
            raise _invalid(
                f"{what} has {len(value):,} characters, and the config's longest is {self._settings['longest']:,}: "
                "cut it, or configure more"
            )
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _invalid(f"{what} is no Unicode that can be written: {error.reason} at {error.start}") from error
        return value


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    settings.check(config, _CONFIG)
    settings.within(config, _LIMITS)
    for key, choices in _CHOICES.items():
        if config.get(key, choices[0]) not in choices:
            raise _invalid(f"config: {key} is one of {', '.join(choices)}, not {config[key]!r:.80}")
    words = config.get("words", [1, 1])
    if len(words) != 2 or not all(type(item) is int for item in words) or not 1 <= words[0] <= words[1] <= 20:
        raise _invalid(f"config: words is the fewest and the most in a row, as in [1, 2], not {words!r:.80}")
    return {**_DEFAULTS, **config}


def _distinct(labels: list[Any]) -> list[Any]:
    """Each label once; 1, 1.0 and True are three."""
    try:
        return list({(type(label), label): label for label in labels}.values())
    except TypeError:
        raise _invalid("labels are texts or whole numbers") from None


def _label_list(labels: list[Any], what: str) -> list[Label]:
    """Distinct labels of one kind, sorted as scikit-learn has them."""
    kinds = {type(label) for label in labels}
    if not labels or len(kinds) > 1 or not kinds <= {str, int}:
        raise _invalid(f"{what} are all texts, or all whole numbers, not {labels!r:.80}")
    if any(isinstance(label, int) and abs(label) >= 2**63 for label in labels):
        raise _invalid(f"{what} are whole numbers of 64 bits")
    if any(isinstance(label, str) and label.endswith("\0") for label in labels):
        raise _invalid(f"{what} cannot end with NUL, which numpy drops")
    return sorted(set(labels))


def _keys(keys: Any) -> list[Label]:
    if not isinstance(keys, list) or not all(type(key) in (str, int) for key in keys):
        raise _invalid(f"keys are a list of texts and whole numbers, not {keys!r:.80}")
    return keys


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
