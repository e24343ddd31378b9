"""Runs steps: what users import to write handlers, and the service that executes them.

Everything public is exported here. May import the domain and the rest of `shared`, never the orchestration.
"""

from tasker.domain.errors import TaskerError
from tasker.domain.results import ErrorType, StepExecutionResult
from tasker.worker.handlers.classes import StepHandler
from tasker.worker.handlers.classification import Classification, ErrorClassifier
from tasker.worker.handlers.context import CancelSignal, StepContext
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
    "BusinessLogicError",
    "CancelSignal",
    "Classification",
    "Config",
    "ConfigurationError",
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
    "depends_on",
    "inputs",
    "load_handlers",
    "step_handler",
]
