"""Runs steps: what users import to write handlers, and the service that executes them.

Everything public is exported here. May import the domain and the rest of `shared`, never the orchestration.
"""

from tasker.domain.errors import TaskerError
from tasker.domain.results import ErrorType, StepExecutionResult
from tasker.worker.handlers.aggregation import BatchAggregationScenario, aggregate_worker_results
from tasker.worker.handlers.batch_context import BatchWorkerContext
from tasker.worker.handlers.batch_functions import batch_aggregator, batch_analyzer, batch_worker
from tasker.worker.handlers.batchable import Batchable
from tasker.worker.handlers.batches import BatchAnalyzerOutcome, BatchConfig, BatchWorkerOutcome, NoBatches
from tasker.worker.handlers.checkpoints import checkpoint_yield
from tasker.worker.handlers.classes import StepHandler
from tasker.worker.handlers.classification import Classification, ErrorClassifier
from tasker.worker.handlers.context import CancelSignal, StepContext
from tasker.worker.handlers.cursors import CursorConfig
from tasker.worker.handlers.decisions import (
    Decision,
    DecisionHandler,
    DecisionMixin,
    DecisionPointOutcome,
    decision_handler,
)
from tasker.worker.handlers.errors import (
    AuthenticationError,
    AuthorizationError,
    BusinessLogicError,
    ConfigurationError,
    DuplicateHandlerError,
    HandlerDefinitionError,
    HandlerError,
    HandlerImportError,
    HandlerMethodNotFoundError,
    HandlerNotFoundError,
    HandlerResolutionError,
    NetworkError,
    NotFoundError,
    PermanentError,
    RateLimitError,
    ResolverNotFoundError,
    ResourceContentionError,
    RetryableError,
    ServiceUnavailableError,
    StepExecutionError,
    StepTimeoutError,
    StepValidationError,
)
from tasker.worker.handlers.functions import depends_on, inputs, step_handler
from tasker.worker.handlers.handler import Handler
from tasker.worker.handlers.markers import Config, Dep, Inputs
from tasker.worker.handlers.registry import HandlerRegistry, load_handlers
from tasker.worker.handlers.resolvers import HandlerDefinition, RegistryResolver
from tasker.worker.handlers.results import StepHandlerResult

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "BatchAggregationScenario",
    "BatchAnalyzerOutcome",
    "BatchConfig",
    "BatchWorkerContext",
    "BatchWorkerOutcome",
    "Batchable",
    "BusinessLogicError",
    "CancelSignal",
    "Classification",
    "Config",
    "ConfigurationError",
    "CursorConfig",
    "Decision",
    "DecisionHandler",
    "DecisionMixin",
    "DecisionPointOutcome",
    "Dep",
    "DuplicateHandlerError",
    "ErrorClassifier",
    "ErrorType",
    "Handler",
    "HandlerDefinition",
    "HandlerDefinitionError",
    "HandlerError",
    "HandlerImportError",
    "HandlerMethodNotFoundError",
    "HandlerNotFoundError",
    "HandlerRegistry",
    "HandlerResolutionError",
    "Inputs",
    "NetworkError",
    "NoBatches",
    "NotFoundError",
    "PermanentError",
    "RateLimitError",
    "RegistryResolver",
    "ResolverNotFoundError",
    "ResourceContentionError",
    "RetryableError",
    "ServiceUnavailableError",
    "StepContext",
    "StepExecutionError",
    "StepExecutionResult",
    "StepHandler",
    "StepHandlerResult",
    "StepTimeoutError",
    "StepValidationError",
    "TaskerError",
    "aggregate_worker_results",
    "batch_aggregator",
    "batch_analyzer",
    "batch_worker",
    "checkpoint_yield",
    "decision_handler",
    "depends_on",
    "inputs",
    "load_handlers",
    "step_handler",
]
