"""Worker programs for machine learning that are ready to run.

    [service.digits]
    command = ["python", "-m", "mlports_models.estimator"]
    config = { estimator = "LogisticRegression" }

- `estimator`: any of scikit-learn's.
- `linear`: inputs × weights, learned by gradient descent, step by step.
- `neural_net`: a network of any layers, whose inputs may be symbols.
- `neuron`: one neuron of a network whose neurons are workers.
- `indicators`: moving averages, RSI and VWAP of market data, bar by bar.
- `anomaly`: which readings are odd, as they come and without labels.
- `recommender`: items for users, brought up to date by each event.
- `fraud`: logistic regression that learns from each case as it is settled.
- `text`: which label a text has, and which texts are alike; learns as labels become known.
- `onnx`, `torch`, `mlflow`: models that were made elsewhere, out of their files.
- `script`: any Python functions, by file and name.

All but the last need more than the SDK does: `pip install 'mlports[models]'`, or the extra of their own name for
`onnx`, `torch` and `mlflow`.
"""
