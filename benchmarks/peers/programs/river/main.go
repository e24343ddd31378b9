// River: a job records its output and inserts the next one; the free package has no workflows.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	steps   = 4
	leaves  = 100
	channel = "bench_done"
	// As in River's documents.
	maxWorkers = 100
	// The defaults, 100 ms between fetches and at least so long between notifications of inserts, and a second between
	// polls for what had none, would be most of what is measured. These are the shortest cooldown, and one poll in 0.1 s.
	fetchCooldown     = time.Millisecond
	fetchPollInterval = 100 * time.Millisecond
)

var result = map[string]string{"blob": strings.Repeat("x", 680)}

type client = river.Client[pgx.Tx]

type stepArgs struct {
	Number int64 `json:"number"`
	Step   int   `json:"step"`
}

type rootArgs struct {
	Number int64 `json:"number"`
}

type leafArgs struct {
	Number int64 `json:"number"`
	Leaf   int   `json:"leaf"`
}

type joinArgs struct {
	Number int64 `json:"number"`
}

func (stepArgs) Kind() string { return "step" }
func (rootArgs) Kind() string { return "root" }
func (leafArgs) Kind() string { return "leaf" }
func (joinArgs) Kind() string { return "join" }

// span goes from the first step that the worker began to the last that it ended, by the clock on the wall.
type span struct {
	sync.Mutex
	First float64 `json:"first"`
	Last  float64 `json:"last"`
	Steps int     `json:"steps"`
}

func (s *span) begin() {
	s.Lock()
	defer s.Unlock()
	if s.First == 0 {
		s.First = now()
	}
}

func (s *span) end() {
	s.Lock()
	defer s.Unlock()
	s.Last = now()
	s.Steps++
}

func (s *span) snapshot() span {
	s.Lock()
	defer s.Unlock()
	return span{First: s.First, Last: s.Last, Steps: s.Steps}
}

func now() float64 { return float64(time.Now().UnixMicro()) / 1e6 }

func ring(ctx context.Context, pool *pgxpool.Pool, number int64) error {
	_, err := pool.Exec(ctx, "SELECT pg_notify($1, $2)", channel, strconv.FormatInt(number, 10))
	return err
}

func workers(pool *pgxpool.Pool, took *span) *river.Workers {
	all := river.NewWorkers()
	river.AddWorker(all, river.WorkFunc(func(ctx context.Context, job *river.Job[stepArgs]) error {
		took.begin()
		defer took.end()
		if err := river.RecordOutput(ctx, result); err != nil {
			return err
		}
		if job.Args.Step == steps {
			return ring(ctx, pool, job.Args.Number)
		}
		next := stepArgs{Number: job.Args.Number, Step: job.Args.Step + 1}
		_, err := river.ClientFromContext[pgx.Tx](ctx).Insert(ctx, next, nil)
		return err
	}))
	river.AddWorker(all, river.WorkFunc(func(ctx context.Context, job *river.Job[rootArgs]) error {
		if err := river.RecordOutput(ctx, result); err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO fans VALUES ($1, $2)", job.Args.Number, leaves); err != nil {
				return err
			}
			jobs := make([]river.InsertManyParams, leaves)
			for leaf := range jobs {
				jobs[leaf].Args = leafArgs{Number: job.Args.Number, Leaf: leaf}
			}
			_, err := river.ClientFromContext[pgx.Tx](ctx).InsertManyFastTx(ctx, tx, jobs)
			return err
		})
	}))
	river.AddWorker(all, river.WorkFunc(func(ctx context.Context, job *river.Job[leafArgs]) error {
		if err := river.RecordOutput(ctx, result); err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			var remaining int
			count := "UPDATE fans SET remaining = remaining - 1 WHERE number = $1 RETURNING remaining"
			if err := tx.QueryRow(ctx, count, job.Args.Number).Scan(&remaining); err != nil || remaining > 0 {
				return err
			}
			_, err := river.ClientFromContext[pgx.Tx](ctx).InsertTx(ctx, tx, joinArgs{Number: job.Args.Number}, nil)
			return err
		})
	}))
	river.AddWorker(all, river.WorkFunc(func(ctx context.Context, job *river.Job[joinArgs]) error {
		if err := river.RecordOutput(ctx, result); err != nil {
			return err
		}
		return ring(ctx, pool, job.Args.Number)
	}))
	return all
}

func setUp(ctx context.Context, pool *pgxpool.Pool) {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	must(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	must(err)
	_, err = pool.Exec(ctx, "CREATE TABLE fans (number bigint PRIMARY KEY, remaining int NOT NULL)")
	must(err)
}

func work(ctx context.Context, pool *pgxpool.Pool) {
	took := &span{}
	running, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown:     fetchCooldown,
		FetchPollInterval: fetchPollInterval,
		Logger:            slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: maxWorkers}},
		Workers:           workers(pool, took),
	})
	must(err)
	must(running.Start(ctx))
	serve(func(request) any { return took.snapshot() })
	must(running.Stop(ctx))
}

func create(ctx context.Context, url string, pool *pgxpool.Pool) {
	inserting, err := river.NewClient(riverpgxv5.New(pool), &river.Config{FetchCooldown: fetchCooldown, FetchPollInterval: fetchPollInterval})
	must(err)
	creator := newCreator(ctx, url, inserting)
	serve(func(asked request) any { return creator.do(ctx, asked) })
}

type request struct {
	Do     string `json:"do"`
	Chains int    `json:"chains"`
	Width  int    `json:"width"`
	Times  int    `json:"times"`
}

// serve answers each line with a line, until there are no more.
func serve(answer func(request) any) {
	say(struct{}{})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked request
		must(json.Unmarshal(lines.Bytes(), &asked))
		say(answer(asked))
	}
}

func say(answer any) {
	line, err := json.Marshal(answer)
	must(err)
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// The command line names a role, `set_up`, `creator` or `worker`, and the database's URL.
func main() {
	ctx := context.Background()
	role, url := os.Args[1], os.Args[2]
	config, err := pgxpool.ParseConfig(url)
	must(err)
	config.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(err)
	defer pool.Close()
	switch role {
	case "set_up":
		setUp(ctx, pool)
	case "creator":
		create(ctx, url, pool)
	default:
		work(ctx, pool)
	}
}
