package sparkconn

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Progress says how far a job on the cluster is. Spark 4 tells it every two seconds, Spark 3.5 never.
type Progress struct {
	Tasks int64 // that are done
	Of    int64 // of those that are known: a stage counts from its begin, the last one of a write always
	Bytes int64 // read from the source so far
}

// String is a line for people: 3 of 12 tasks, 40 MiB read.
func (p Progress) String() string {
	return fmt.Sprintf("%d of %d tasks, %s read", p.Tasks, p.Of, inBytes(p.Bytes))
}

// Activity is what a server does for a caller at a time.
type Activity struct {
	What     string   // the operation: source, statistics, writing shards
	Progress Progress // of the stages that are known; zero at the begin, and where Spark does not tell
}

type watchKey struct{}

// WithWatch gives a context with which f is told of every operation of a session or an engine: when it begins, and then
// now and then how far it is, in the goroutine that waits for it.
func WithWatch(ctx context.Context, f func(Activity)) context.Context {
	return context.WithValue(ctx, watchKey{}, f)
}

// watched tells the watcher of a context, if there is one, that an operation begins, and of its progress in the responses
// that on gets.
func watched(ctx context.Context, what string, on func(message) error) func(message) error {
	f, _ := ctx.Value(watchKey{}).(func(Activity))
	if f == nil {
		return on
	}
	f(Activity{What: what})
	return func(rep message) error {
		if p, ok := progressOf(rep, 0); ok {
			f(Activity{What: what, Progress: p})
		}
		return on(rep)
	}
}

// executionProgress is the field of answers with progress, and stageOf that of a stage in it, from Spark 4.0 on.
const (
	executionProgress protowire.Number = 18
	stageOf           protowire.Number = 1
)

// progressOf reads the progress out of a response; last is the number of tasks of the stage that ends the job.
func progressOf(rep message, last int64) (p Progress, ok bool) {
	var idle, final int64 // tasks of the stage before when none is done, and whether the stage that ends the job is known
	fields([]byte(rep.unknown(executionProgress)), func(n protowire.Number, stage []byte) {
		if n != stageOf {
			return
		}
		ok = true
		tasks, done, read := varint(stage, 2), varint(stage, 3), varint(stage, 4)
		p.Of += tasks - idle // a stage that was passed by was not needed: what it makes is there
		p.Tasks += done
		p.Bytes += read
		idle, final = 0, 0
		if done == 0 {
			idle = tasks
		}
		if tasks == last && read == 0 && p.Of > tasks {
			final = tasks
		}
	})
	if ok {
		p.Of += last - final
	}
	return p, ok
}

// watch gives the progress in responses to f, which may be nil.
func watch(f func(Progress), last int64) func(message) error {
	return func(rep message) error {
		if f == nil {
			return nil
		}
		if p, ok := progressOf(rep, last); ok {
			f(p)
		}
		return nil
	}
}
