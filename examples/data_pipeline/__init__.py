"""Purchases through a lazy flow in worker processes: who will buy again, and what that costs beside a plain loop."""
