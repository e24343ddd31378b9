package main

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
)

// creator runs the scenarios; it learns of a chain's end by the notification of its last job.
type creator struct {
	client   *client
	mutex    sync.Mutex
	expected map[string]chan struct{}
	last     atomic.Int64
}

func newCreator(ctx context.Context, url string, inserting *client) *creator {
	made := &creator{client: inserting, expected: map[string]chan struct{}{}}
	made.last.Store(time.Now().UnixMicro())
	connection, err := pgx.Connect(ctx, url)
	must(err)
	_, err = connection.Exec(ctx, "LISTEN "+channel)
	must(err)
	go made.hear(ctx, connection)
	return made
}

func (c *creator) hear(ctx context.Context, connection *pgx.Conn) {
	for {
		notification, err := connection.WaitForNotification(ctx)
		must(err)
		c.mutex.Lock()
		if rung, found := c.expected[notification.Payload]; found {
			close(rung)
			delete(c.expected, notification.Payload)
		}
		c.mutex.Unlock()
	}
}

// expect is to be called before the chain is created: it may be done before the call returns.
func (c *creator) expect(number int64) <-chan struct{} {
	rung := make(chan struct{})
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.expected[strconv.FormatInt(number, 10)] = rung
	return rung
}

func (c *creator) insert(ctx context.Context, args river.JobArgs) {
	_, err := c.client.Insert(ctx, args, nil)
	must(err)
}

func (c *creator) do(ctx context.Context, asked request) any {
	switch asked.Do {
	case "one_by_one":
		return c.oneByOne(ctx, asked.Chains)
	case "in_flight":
		return timed(asked.Chains, asked.Width, func() {
			number := c.last.Add(1)
			rung := c.expect(number)
			c.insert(ctx, stepArgs{Number: number, Step: 1})
			<-rung
		})
	case "backlog":
		return timed(asked.Chains, asked.Width, func() {
			c.insert(ctx, stepArgs{Number: c.last.Add(1), Step: 1})
		})
	default:
		return c.fan(ctx, asked.Times)
	}
}

func (c *creator) oneByOne(ctx context.Context, chains int) any {
	createMs, chainMs := make([]float64, chains), make([]float64, chains)
	for chain := range chains {
		number := c.last.Add(1)
		rung := c.expect(number)
		started := time.Now()
		c.insert(ctx, stepArgs{Number: number, Step: 1})
		createMs[chain] = milliseconds(started)
		<-rung
		chainMs[chain] = milliseconds(started)
	}
	return map[string][]float64{"create_ms": createMs, "chain_ms": chainMs}
}

func (c *creator) fan(ctx context.Context, times int) any {
	fanMs := make([]float64, times)
	for turn := range times {
		number := c.last.Add(1)
		rung := c.expect(number)
		started := time.Now()
		c.insert(ctx, rootArgs{Number: number})
		<-rung
		fanMs[turn] = milliseconds(started)
	}
	return map[string][]float64{"fan_ms": fanMs}
}

func timed(times, width int, act func()) any {
	var turn atomic.Int64
	var all sync.WaitGroup
	started := time.Now()
	for range width {
		all.Go(func() {
			for turn.Add(1) <= int64(times) {
				act()
			}
		})
	}
	all.Wait()
	return map[string]float64{"seconds": time.Since(started).Seconds()}
}

func milliseconds(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }
