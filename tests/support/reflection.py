"""Calling what is known by its name alone, as grpcurl does: the service tells its types."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def call_by_reflection(address: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
    """Call a method of which nothing is known but its name."""
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service_name, _, method_name = method.partition("/")
        descriptor = pool.FindServiceByName(service_name).FindMethodByName(method_name)
        message = json_format.ParseDict(
            request, message_factory.GetMessageClass(descriptor.input_type)(), descriptor_pool=pool
        )
        call = channel.unary_unary(
            f"/{method}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(descriptor.output_type).FromString,
        )
        answer: dict[str, Any] = json_format.MessageToDict(call(message, timeout=30), descriptor_pool=pool)
        return answer
