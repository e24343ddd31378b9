// Create a task, watch it to its end, and read why another one is refused.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	taskerv1 "example/gen/tasker/v1"
)

// For a call that answers once; a stream lasts as long as its task.
const patience = 10 * time.Second

func main() {
	address := "127.0.0.1:9190"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if err := run(context.Background(), address); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address string) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	tasks := taskerv1.NewTaskServiceClient(connection)

	task, err := create(ctx, tasks, map[string]any{"even_number": 6})
	if err != nil {
		return err
	}
	fmt.Println("created:", task.Name)
	if err := watch(ctx, tasks, task.TaskUuid); err != nil {
		return err
	}
	result, err := lastResult(ctx, tasks, task.TaskUuid)
	if err != nil {
		return err
	}
	fmt.Println("result:", result)

	if _, err := create(ctx, tasks, map[string]any{"even_number": 7}); err != nil {
		explain(err)
	}
	return nil
}

// create sends the context as JSON text, which keeps integers as they are.
func create(ctx context.Context, tasks taskerv1.TaskServiceClient, input map[string]any) (*taskerv1.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := json.Marshal(input)
	if err != nil {
		return nil, err
	}
	contextJSON := string(text)
	answer, err := tasks.CreateTask(ctx, &taskerv1.CreateTaskRequest{
		Namespace: "examples_linear", Name: "mathematical_sequence", ContextJson: &contextJSON,
	})
	return answer.GetTask(), err
}

// watch prints what happens until the service ends the stream. One that breaks is opened again with the last
// cursor: ResumeCursor of the request.
func watch(ctx context.Context, tasks taskerv1.TaskServiceClient, taskUUID string) error {
	fromStart := ""
	stream, err := tasks.StreamTaskStatus(ctx, &taskerv1.StreamTaskStatusRequest{
		TaskUuid: taskUUID, IncludeSteps: true, ResumeCursor: &fromStart,
	})
	if err != nil {
		return err
	}
	for {
		update, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch update.UpdateType {
		case taskerv1.TaskStatusUpdate_UPDATE_TYPE_STEP_STATE_CHANGE:
			if update.StepUpdate.State == taskerv1.StepState_STEP_STATE_COMPLETE {
				fmt.Println("step:", update.StepUpdate.Name)
			}
		case taskerv1.TaskStatusUpdate_UPDATE_TYPE_TASK_COMPLETE:
			fmt.Println("complete")
		case taskerv1.TaskStatusUpdate_UPDATE_TYPE_TASK_ERROR:
			fmt.Println("error:", update.GetErrorMessage())
		}
	}
}

// lastResult returns what the last step returned, from its exact JSON.
func lastResult(ctx context.Context, tasks taskerv1.TaskServiceClient, taskUUID string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := tasks.GetTask(ctx, &taskerv1.GetTaskRequest{TaskUuid: taskUUID, IncludeSteps: true})
	if err != nil {
		return "", err
	}
	var results struct {
		Result struct{ Value string }
	}
	err = json.Unmarshal([]byte(answer.Steps[len(answer.Steps)-1].GetResultsJson()), &results)
	return results.Result.Value, err
}

// explain prints the status, its reason and the fields that are wrong.
func explain(err error) {
	refusal := status.Convert(err)
	fmt.Println("refused:", code.Code(refusal.Code()))
	for _, detail := range refusal.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Println("reason:", detail.Reason)
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fmt.Println("field:", violation.Field)
			}
		}
	}
}
