"""Create a task, watch it to its end, and read why another one is refused."""

import json
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tasker.v1 import common_pb2, tasks_pb2, tasks_pb2_grpc

SECONDS = 10  # for a call that answers once; a stream lasts as long as its task


def main(address: str) -> None:
    """Run against an orchestration service."""
    with grpc.insecure_channel(address) as channel:
        tasks = tasks_pb2_grpc.TaskServiceStub(channel)
        task = create(tasks, {"even_number": 6})
        print("created:", task.name)
        watch(tasks, task.task_uuid)
        print("result:", last_result(tasks, task.task_uuid))
        try:
            create(tasks, {"even_number": 7})
        except grpc.RpcError as error:
            explain(error)


def create(tasks: tasks_pb2_grpc.TaskServiceStub, context: dict) -> tasks_pb2.Task:
    """Create a task; the context goes as JSON text, which keeps integers as they are."""
    request = tasks_pb2.CreateTaskRequest(
        namespace="examples_linear", name="mathematical_sequence", context_json=json.dumps(context)
    )
    return tasks.CreateTask(request, timeout=SECONDS).task


def watch(tasks: tasks_pb2_grpc.TaskServiceStub, task_uuid: str) -> None:
    """Print what happens until the service ends the stream.

    A stream that breaks is opened again with the last cursor: `resume_cursor` of the request.
    """
    request = tasks_pb2.StreamTaskStatusRequest(task_uuid=task_uuid, include_steps=True, resume_cursor="")
    for update in tasks.StreamTaskStatus(request):
        if update.update_type == tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_STEP_STATE_CHANGE:
            if update.step_update.state == common_pb2.STEP_STATE_COMPLETE:
                print("step:", update.step_update.name)
        elif update.update_type == tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_COMPLETE:
            print("complete")
        elif update.update_type == tasks_pb2.TaskStatusUpdate.UPDATE_TYPE_TASK_ERROR:
            print("error:", update.error_message)


def last_result(tasks: tasks_pb2_grpc.TaskServiceStub, task_uuid: str) -> str:
    """Return what the last step returned, from its exact JSON."""
    request = tasks_pb2.GetTaskRequest(task_uuid=task_uuid, include_steps=True)
    steps = tasks.GetTask(request, timeout=SECONDS).steps
    return json.loads(steps[-1].results_json)["result"]["value"]


def explain(error: grpc.RpcError) -> None:
    """Print the status, its reason and the fields that are wrong."""
    print("refused:", error.code().name)
    for detail in rpc_status.from_call(error).details:
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            print("reason:", info.reason)
        elif detail.Unpack(bad_request):
            for violation in bad_request.field_violations:
                print("field:", violation.field)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9190")
