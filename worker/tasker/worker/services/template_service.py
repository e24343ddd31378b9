"""tasker.v1.WorkerTemplateService."""

from __future__ import annotations

from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.domain.templates.document import StepType
from tasker.rpc.interceptor import ServicerContext
from tasker.v1 import worker_pb2, worker_pb2_grpc
from tasker.worker.runtime.served import ServedTemplate
from tasker.worker.runtime.worker import Worker


class WorkerTemplateService(worker_pb2_grpc.WorkerTemplateServiceServicer):
    """Shows which templates the worker serves, and with which handlers."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def ListTemplates(
        self, request: worker_pb2.WorkerListTemplatesRequest, context: ServicerContext
    ) -> worker_pb2.WorkerTemplateListResponse:
        """Count the templates, of one namespace if asked."""
        return worker_pb2.WorkerTemplateListResponse(
            supported_namespaces=self._worker.namespaces,
            template_count=len(self._worker.served.in_namespace(request.namespace or None)),
            cache_stats=self._cache_stats() if request.include_cache_stats else None,
            worker_capabilities=[step_type.value for step_type in StepType],
        )

    async def GetTemplate(
        self, request: worker_pb2.WorkerGetTemplateRequest, context: ServicerContext
    ) -> worker_pb2.WorkerTemplateResponse:
        """Return a template and the handlers of its steps; an empty version means the highest one."""
        missing = [
            FieldViolation(field, "required")
            for field in ("namespace", "name")
            if not getattr(request, field)
        ]
        if missing:
            raise InvalidArgumentError(missing)
        served = self._worker.served.get(request.namespace, request.name, request.version)
        return worker_pb2.WorkerTemplateResponse(
            template=_template(served),
            handler_metadata=_handlers(served),
            cached=served.kept is not None,
            cache_age_seconds=served.kept.age_seconds if served.kept else None,
            access_count=served.kept.hits if served.kept else None,
        )

    def _cache_stats(self) -> worker_pb2.CacheStats:
        statistics = self._worker.served.statistics()
        return worker_pb2.CacheStats(
            total_cached=statistics.kept,
            cache_hits=statistics.hits,
            cache_misses=statistics.misses,
            cache_evictions=statistics.dropped,
            oldest_entry_age_seconds=statistics.oldest_seconds,
            average_access_count=statistics.hits / statistics.kept if statistics.kept else 0,
            supported_namespaces=self._worker.namespaces,
        )


def _template(served: ServedTemplate) -> worker_pb2.WorkerResolvedTemplate:
    template = served.template
    return worker_pb2.WorkerResolvedTemplate(
        name=template.name,
        namespace=template.namespace_name,
        version=template.version,
        description=template.description,
        steps=[
            worker_pb2.WorkerStepDefinition(
                name=step.name,
                description=step.description,
                retryable=step.retry.retryable,
                max_attempts=step.retry.max_attempts,
                handler=step.handler.callable,
                handler_version=served.handlers[step.name].version,
            )
            for step in template.steps
        ],
    )


def _handlers(served: ServedTemplate) -> worker_pb2.WorkerHandlerMetadata:
    template = served.template
    names = dict.fromkeys(step.handler.callable for step in template.steps)
    return worker_pb2.WorkerHandlerMetadata(
        namespace=template.namespace_name,
        handler_name=", ".join(names),
        version=template.version,
        description=template.description,
        step_names=[step.name for step in template.steps],
    )
