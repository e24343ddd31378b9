// Create a task, watch it to its end, and read why another one is refused.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const SECONDS = 10; // for a call that answers once; a stream lasts as long as its task

// The published descriptors; no generated code. keepCase: names as in the contract.
const descriptors = fs.readFileSync(path.join(__dirname, '..', '..', 'proto', 'tasker.v1.binpb'));
const definitions = loader.loadFileDescriptorSetFromBuffer(descriptors, {
  keepCase: true, enums: String, longs: String, defaults: true, oneofs: true,
});
const { TaskService } = grpc.loadPackageDefinition(definitions).tasker.v1;

// As much of google.rpc as tells why a call was refused.
const google = protobuf.parse(`
  syntax = "proto3";
  message Detail { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Detail details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message Violation { string field = 1; string description = 2; }
  message BadRequest { repeated Violation field_violations = 1; }
`, { keepCase: true }).root;

async function main(address) {
  const tasks = new TaskService(address, grpc.credentials.createInsecure());
  const task = await create(tasks, { even_number: 6 });
  console.log('created:', task.name);
  await watch(tasks, task.task_uuid);
  console.log('result:', await lastResult(tasks, task.task_uuid));
  try {
    await create(tasks, { even_number: 7 });
  } catch (error) {
    explain(error);
  }
  tasks.close();
}

function call(client, method, request) {
  const deadline = new Date(Date.now() + SECONDS * 1000);
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// The context goes as JSON text. `context` is a Struct, which this loader wants spelled out, key by key, in one way
// from .proto files and in another from descriptors; of a plain object it sends an empty one, without a word.
async function create(tasks, context) {
  const answer = await call(tasks, 'CreateTask', {
    namespace: 'examples_linear', name: 'mathematical_sequence', context_json: JSON.stringify(context),
  });
  return answer.task;
}

// A stream that breaks is opened again with the last cursor: `resume_cursor` of the request.
function watch(tasks, taskUuid) {
  const request = { task_uuid: taskUuid, include_steps: true, resume_cursor: '' };
  return new Promise((resolve, reject) => {
    const stream = tasks.StreamTaskStatus(request);
    stream.on('data', (update) => {
      if (update.update_type === 'UPDATE_TYPE_STEP_STATE_CHANGE') {
        if (update.step_update.state === 'STEP_STATE_COMPLETE') console.log('step:', update.step_update.name);
      } else if (update.update_type === 'UPDATE_TYPE_TASK_COMPLETE') {
        console.log('complete');
      } else if (update.update_type === 'UPDATE_TYPE_TASK_ERROR') {
        console.log('error:', update.error_message);
      }
    });
    stream.on('error', reject);
    stream.on('end', resolve);
  });
}

// JSON.parse rounds integers above 2^53; whoever has them reads the text with a parser that does not.
async function lastResult(tasks, taskUuid) {
  const { steps } = await call(tasks, 'GetTask', { task_uuid: taskUuid, include_steps: true });
  return JSON.parse(steps.at(-1).results_json).result.value;
}

function explain(error) {
  console.log('refused:', grpc.status[error.code]);
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  for (const detail of google.lookupType('Status').decode(bytes).details) {
    const kind = detail.type_url.split('.').pop();
    if (kind === 'ErrorInfo') {
      console.log('reason:', google.lookupType(kind).decode(detail.value).reason);
    } else if (kind === 'BadRequest') {
      for (const { field } of google.lookupType(kind).decode(detail.value).field_violations) {
        console.log('field:', field);
      }
    }
  }
}

main(process.argv[2] ?? '127.0.0.1:9190').catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
