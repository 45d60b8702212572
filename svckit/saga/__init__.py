"""The saga engine: definition (what a saga is), journal (its rows), engine (what drives it), requests (idempotency),
notices (who waits for it), room (how many are taken on), instruments (what is counted of it).
"""

from svckit.saga.definition import More, Progress, Run, SagaDefinition, Step
from svckit.saga.engine import SagaEngine

__all__ = ["More", "Progress", "Run", "SagaDefinition", "SagaEngine", "Step"]
