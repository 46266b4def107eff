"""Worker programs for machine learning that are ready to run.

    [service.digits]
    command = ["python", "-m", "mlports_models.estimator"]
    config = { estimator = "LogisticRegression" }

They need more than the SDK does: `pip install 'mlports[models]'`.
"""
