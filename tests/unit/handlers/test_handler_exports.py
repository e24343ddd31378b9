"""What users may import is a promise; a change here is a change of the public API."""

from __future__ import annotations

import subprocess
import sys

import tasker.worker

EXPORTS = {
    # writing a handler
    "Config",
    "Dep",
    "Inputs",
    "StepContext",
    "StepHandler",
    "StepHandlerResult",
    "CancelSignal",
    "depends_on",
    "inputs",
    "step_handler",
    # deciding
    "Decision",
    "DecisionHandler",
    "DecisionMixin",
    "DecisionPointOutcome",
    "decision_handler",
    # batches
    "BatchAggregationScenario",
    "BatchAnalyzerOutcome",
    "BatchConfig",
    "BatchWorkerContext",
    "BatchWorkerOutcome",
    "Batchable",
    "CursorConfig",
    "NoBatches",
    "aggregate_worker_results",
    "batch_aggregator",
    "batch_analyzer",
    "batch_worker",
    "checkpoint_yield",
    # failing
    "AuthenticationError",
    "AuthorizationError",
    "BusinessLogicError",
    "ConfigurationError",
    "ErrorType",
    "HandlerError",
    "NetworkError",
    "NotFoundError",
    "PermanentError",
    "RateLimitError",
    "ResourceContentionError",
    "RetryableError",
    "ServiceUnavailableError",
    "StepExecutionError",
    "StepTimeoutError",
    "StepValidationError",
    "TaskerError",
    # finding and classifying
    "Classification",
    "DuplicateHandlerError",
    "ErrorClassifier",
    "Handler",
    "HandlerDefinitionError",
    "HandlerImportError",
    "HandlerMethodNotFoundError",
    "HandlerNotFoundError",
    "HandlerRegistry",
    "HandlerResolutionError",
    "HandlerDefinition",
    "RegistryResolver",
    "ResolverNotFoundError",
    "StepExecutionResult",
    "load_handlers",
}


def test_the_public_names_are_frozen() -> None:
    assert set(tasker.worker.__all__) == EXPORTS
    assert [name for name in EXPORTS if not hasattr(tasker.worker, name)] == []


def test_handlers_need_neither_database_nor_grpc() -> None:
    program = "import sys, tasker.worker; print(sorted({'grpc', 'psycopg', 'pgmq'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
