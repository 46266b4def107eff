"""All that the estimator worker imports before it answers: most of scikit-learn. For a template, to import it once.

[service.digits]
command = ["python", "-m", "mlports_models.estimator"]
preload = ["mlports_models.preloaded"]
"""

from __future__ import annotations

from . import registry, served, settings

registry.names()

__all__ = ["served", "settings"]
