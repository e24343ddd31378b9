/** Runs the scenarios; it learns of a chain's end by the notification of its last job. */
export class Creator {
  #utils;
  #bell;
  #expected = new Map();
  #last = Date.now() * 1000;

  constructor(utils, bell) {
    this.#utils = utils;
    this.#bell = bell;
  }

  async listen() {
    this.#bell.on("notification", ({ payload }) => {
      this.#expected.get(payload)?.();
      this.#expected.delete(payload);
    });
    await this.#bell.query("LISTEN bench_done");
  }

  do({ do: what, chains, width, times }) {
    return {
      one_by_one: () => this.#oneByOne(chains),
      in_flight: () => timed(chains, width, () => this.#run("step")),
      backlog: () => timed(chains, width, () => this.#add("step", ++this.#last)),
      fan: () => this.#fan(times),
    }[what]();
  }

  async #oneByOne(chains) {
    const answer = { create_ms: [], chain_ms: [] };
    for (let chain = 0; chain < chains; chain++) {
      const number = ++this.#last;
      const rung = this.#expect(number);
      const started = performance.now();
      await this.#add("step", number);
      answer.create_ms.push(performance.now() - started);
      await rung;
      answer.chain_ms.push(performance.now() - started);
    }
    return answer;
  }

  async #fan(times) {
    const taken = [];
    for (let turn = 0; turn < times; turn++) {
      const started = performance.now();
      await this.#run("root");
      taken.push(performance.now() - started);
    }
    return { fan_ms: taken };
  }

  async #run(task) {
    const number = ++this.#last;
    const rung = this.#expect(number);
    await this.#add(task, number);
    await rung;
  }

  #add(task, number) {
    return this.#utils.addJob(task, { number, step: 1 });
  }

  /** To be called before the chain is created: it may be done before the call returns. */
  #expect(number) {
    return new Promise((resolve) => this.#expected.set(String(number), resolve));
  }
}

async function timed(times, width, act) {
  let turn = 0;
  const goOn = async () => {
    while (turn++ < times) await act();
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: width }, goOn));
  return { seconds: (performance.now() - started) / 1000 };
}
