// graphile-worker: one statement stores a job's result and adds the next job.
import { createInterface } from "node:readline";
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";
import { Creator } from "./scenarios.mjs";

const [role, url] = process.argv.slice(2);
const STEPS = 4;
const LEAVES = 100;
const CONCURRENCY = 32;
const RESULT = JSON.stringify({ blob: "x".repeat(680) });
const logger = new Logger(() => (level, message) => {
  if (level === "error") console.error(message);
});

const STORE = "INSERT INTO results VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const STORE_AND_ADD = `
  WITH stored AS (${STORE})
  SELECT graphile_worker.add_job($4, json_build_object('number', $1::bigint, 'step', $2::int + 1))`;
const STORE_AND_RING = `WITH stored AS (${STORE}) SELECT pg_notify('bench_done', $1::bigint::text)`;
const STORE_AND_SPREAD = `
  WITH stored AS (${STORE}), counting AS (INSERT INTO fans VALUES ($1, $4))
  SELECT count(*) FROM generate_series(1, $4) AS leaf, LATERAL
    graphile_worker.add_job('leaf', json_build_object('number', $1::bigint, 'leaf', leaf))`;
const STORE_AND_JOIN = `
  WITH stored AS (${STORE}),
  counted AS (UPDATE fans SET remaining = remaining - 1 WHERE number = $1 RETURNING remaining)
  SELECT graphile_worker.add_job('join', json_build_object('number', $1::bigint)) FROM counted WHERE remaining = 0`;

/** From the first step that the worker began to the last that it ended, by the clock on the wall. */
const span = { first: 0, last: 0, steps: 0 };

/** Prepared, as graphile-worker's own statements are. */
const query = (helpers, name, text, values) =>
  helpers.withPgClient((client) => client.query({ name, text, values }));

const taskList = {
  step: async ({ number, step }, helpers) => {
    span.first ||= Date.now() / 1000;
    if (step < STEPS) await query(helpers, "step", STORE_AND_ADD, [number, step, RESULT, "step"]);
    else await query(helpers, "end", STORE_AND_RING, [number, step, RESULT]);
    span.last = Date.now() / 1000;
    span.steps += 1;
  },
  root: ({ number }, helpers) => query(helpers, "root", STORE_AND_SPREAD, [number, 0, RESULT, LEAVES]),
  leaf: ({ number, leaf }, helpers) => query(helpers, "leaf", STORE_AND_JOIN, [number, leaf, RESULT]),
  join: ({ number }, helpers) => query(helpers, "join", STORE_AND_RING, [number, LEAVES + 1, RESULT]),
};

async function setUp() {
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  await utils.migrate();
  await utils.withPgClient((client) =>
    client.query(`
      CREATE TABLE results (number bigint, step int, result jsonb NOT NULL, PRIMARY KEY (number, step));
      CREATE TABLE fans (number bigint PRIMARY KEY, remaining int NOT NULL);`),
  );
  await utils.release();
}

async function work() {
  const runner = await run({
    connectionString: url,
    taskList,
    logger,
    noHandleSignals: true,
    // As its chapter on performance suggests: a pool larger than what runs at once, a local queue, batched completion.
    preset: {
      worker: {
        concurrentJobs: CONCURRENCY,
        maxPoolSize: CONCURRENCY + 2,
        localQueue: { size: CONCURRENCY + 1 },
        completeJobBatchDelay: 0,
      },
    },
  });
  await serve(async () => span);
  await runner.stop();
}

async function create() {
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  const bell = new pg.Client({ connectionString: url });
  await bell.connect();
  const creator = new Creator(utils, bell);
  await creator.listen();
  await serve((request) => creator.do(request));
  await bell.end();
  await utils.release();
}

/** Answer each line with a line, until there are no more. */
async function serve(answer) {
  console.log("{}");
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(JSON.parse(line))));
  }
}

// The command line names a role, `set_up`, `creator` or `worker`, and the database's URL.
await { set_up: setUp, creator: create, worker: work }[role]();
