package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

func TestASecondRunGetsBusyWithTheHoldersName(t *testing.T) {
	_, m := memory()
	acquire(t, m, Options{Owner: "alice"})
	_, err := Acquire(t.Context(), m, root, Options{Owner: "bob"})
	held, ok := errors.AsType[*Held](err)
	if !ok || held.Holder.Owner != "alice" || hdfsio.KindOf(err) != hdfsio.KindBusy {
		t.Fatalf("%v", err)
	}
	e, _ := errors.AsType[*hdfsio.Error](err)
	me := thisProcess()
	for _, part := range []string{root, "alice", "host " + me.Host, fmt.Sprint("process ", me.PID), "since 2"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not tell %q", err, part)
		}
	}
	if !strings.Contains(e.Hint, "stop process") || !strings.Contains(e.Hint, "30s") {
		t.Errorf("hint %q", e.Hint)
	}
}

func TestReleaseFreesAndEpochsRise(t *testing.T) {
	_, m := memory()
	for i := range 3 {
		l, err := Acquire(t.Context(), m, root, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if l.Epoch() != uint64(i+1) {
			t.Errorf("epoch %d at run %d", l.Epoch(), i)
		}
		for range 2 {
			if err := l.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := clean(t.Context(), m, root); err != nil {
			t.Error(err)
		}
	}
}

func TestReleaseWorksAfterTheContextIsOver(t *testing.T) {
	_, m := memory()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Acquire(ctx, m, root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := l.Release(ctx); err != nil {
		t.Fatal(err)
	}
	acquire(t, m, Options{})
}

func TestManyRunsRaceForOneLock(t *testing.T) {
	_, m := memory()
	for range 20 {
		var wins, holders atomic.Int32
		var wg sync.WaitGroup
		hold := make(chan struct{})
		results := make(chan error, 12)
		for range cap(results) {
			wg.Go(func() {
				l, err := Acquire(t.Context(), m, root, Options{})
				results <- err
				if err != nil {
					if hdfsio.KindOf(err) != hdfsio.KindBusy {
						t.Errorf("the loser's error is %v", err)
					}
					return
				}
				wins.Add(1)
				if holders.Add(1) > 1 {
					t.Error("two hold the lock")
				}
				<-hold
				holders.Add(-1)
				if err := l.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		for range cap(results) {
			<-results
		}
		close(hold)
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%d winners", wins.Load())
		}
	}
}

func TestWaitersGetTheLockOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := memory()
		var inside atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				l, err := Acquire(t.Context(), m, root, Options{Wait: time.Hour})
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) > 1 {
					t.Error("two inside")
				}
				time.Sleep(40 * time.Second) // of the bubble: longer than StaleAfter, so heartbeats have to come
				inside.Add(-1)
				if err := l.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestALiveLockIsNeverTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := memory()
		// The store's clock runs away: by it every sign of life is old.
		var asked atomic.Int64
		m.Now = func() time.Time { return time.Now().Add(time.Duration(asked.Add(1)) * time.Hour) }
		l := acquire(t, m, Options{})
		for range 5 {
			if _, err := Acquire(t.Context(), m, root, Options{Wait: time.Minute}); hdfsio.KindOf(err) != hdfsio.KindBusy {
				t.Fatalf("%v", err)
			}
		}
		if err := l.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// silence makes a lock whose holder does not give signs of life, as if its machine were cut off.
func silence(t *testing.T, f *hdfstest.Faults, opt Options) *Lock {
	t.Helper()
	l, err := Acquire(t.Context(), f, root, opt)
	if err != nil {
		t.Fatal(err)
	}
	f.Freeze(syscall.EHOSTUNREACH)
	return l
}

func TestASilentHolderIsTakenOverAndLearnsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := memory()
		l := silence(t, f, Options{Owner: "alice"})
		time.Sleep(12 * time.Second)
		if _, err := Acquire(t.Context(), m, root, Options{}); hdfsio.KindOf(err) != hdfsio.KindBusy {
			t.Fatalf("after 12 s: %v", err)
		} else if held, _ := errors.AsType[*Held](err); held.Silent != 12*time.Second {
			t.Fatalf("silent for %v", held.Silent)
		}
		time.Sleep(20 * time.Second)
		l2, err := Acquire(t.Context(), m, root, Options{Owner: "bob"})
		if err != nil {
			t.Fatalf("after 32 s: %v", err)
		}
		if l2.Epoch() <= l.Epoch() {
			t.Errorf("epoch %d follows %d", l2.Epoch(), l.Epoch())
		}
		f.Clear()
		time.Sleep(6 * time.Second)
		select {
		case <-l.Lost():
		default:
			t.Error("no heartbeat noticed the loss")
		}
		if err := l.Check(t.Context()); !errors.Is(err, ErrLost) || hdfsio.KindOf(err) != hdfsio.KindBusy {
			t.Errorf("%v", err)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if err := l2.Check(t.Context()); err != nil {
			t.Errorf("the release of the lost lock hurt the new one: %v", err)
		}
		if info, err := m.Stat(t.Context(), root+"/"+lockName); err != nil {
			t.Errorf("%+v, %v", info, err)
		}
		if err := l2.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestOfManyTakersOneWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for round := range 20 {
			f, m := memory()
			l := silence(t, f, Options{})
			time.Sleep(31 * time.Second)
			var wg sync.WaitGroup
			won := make(chan *Lock, 8)
			for range cap(won) {
				wg.Go(func() {
					l, err := Acquire(t.Context(), m, root, Options{})
					switch {
					case err == nil:
						won <- l
					case hdfsio.KindOf(err) != hdfsio.KindBusy:
						t.Errorf("the loser's error is %v", err)
					}
				})
			}
			wg.Wait()
			if len(won) != 1 {
				t.Fatalf("round %d: %d winners", round, len(won))
			}
			if err := (<-won).Release(t.Context()); err != nil {
				t.Error(err)
			}
			f.Clear()
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestATakerWithAnOldLookLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := memory()
		l, err := Acquire(t.Context(), m, root, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The slow one sees epoch 1 released and is held up right before it claims epoch 2.
		reached, release := make(chan struct{}), make(chan struct{})
		f.Add(hdfstest.Fault{Op: hdfstest.Create, Match: func(n string) bool { return strings.HasSuffix(n, epochFile(2)) }, Nth: 1,
			Hook: func(context.Context, string) { close(reached); <-release }})
		slow := make(chan error, 1)
		go func() {
			_, err := Acquire(t.Context(), f, root, Options{})
			slow <- err
		}()
		<-reached
		// Meanwhile epoch 2 comes and goes, epoch 3 holds, and the file of epoch 2 is gone.
		for i := range 2 {
			l, err := Acquire(t.Context(), m, root, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				if err := l.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if _, err := m.Stat(t.Context(), root+"/"+epochsName+"/"+epochFile(2)); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("the claim of epoch 2 is still there: %v", err)
			}
			close(release)
			if err := <-slow; hdfsio.KindOf(err) != hdfsio.KindBusy {
				t.Fatalf("the late one got %v", err)
			}
			if err := l.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := l.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestATakerWhoseJudgementIsOutOfDateLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := memory()
		claim := root + "/" + epochsName + "/" + epochFile(3)
		put := func(h Holder) {
			if err := errors.Join(m.Mkdir(t.Context(), root+"/"+epochsName), m.Remove(t.Context(), claim),
				hdfsio.WriteFile(t.Context(), m, claim, encode(h))); err != nil {
				t.Fatal(err)
			}
		}
		// The claim that is judged belongs to a dead run; that of now, under the same number, to one that lives.
		put(Holder{Format: lockFormat, Owner: "dead", Epoch: 3, ID: "dead"})
		time.Sleep(time.Minute)
		f.Add(hdfstest.Fault{Op: hdfstest.Create, Match: func(n string) bool { return strings.HasSuffix(n, epochFile(4)) }, Nth: 1,
			Hook: func(context.Context, string) { put(Holder{Format: lockFormat, Owner: "alive", Epoch: 3, ID: "alive"}) }})
		if _, err := Acquire(t.Context(), f, root, Options{}); hdfsio.KindOf(err) != hdfsio.KindBusy {
			t.Fatalf("%v", err)
		}
		acquire(t, m, Options{}) // what the loser claimed is given up
	})
}

func TestTheLockOfADeadProcessIsTakenAtOnce(t *testing.T) {
	if thisProcess().Machine == "" {
		t.Skip("this operating system does not tell processes apart")
	}
	dead := startChild(t, "exit")
	if err := dead.Wait(); err != nil {
		t.Fatal(err)
	}
	holder := thisProcess()
	holder.PID = dead.Process.Pid
	for what, c := range map[string]struct {
		p    process
		free bool
	}{
		"a process that ended":           {holder, true},
		"a process number used again":    {process{Host: holder.Host, PID: thisProcess().PID, Machine: holder.Machine, Start: "1"}, true},
		"this process":                   {thisProcess(), false},
		"a process of another machine":   {process{Host: holder.Host, PID: holder.PID, Machine: "other", Start: holder.Start}, false},
		"a process of an unknown system": {process{Host: "mac", PID: holder.PID}, false},
	} {
		_, m := memory()
		if err := m.Mkdir(t.Context(), root+"/"+epochsName); err != nil {
			t.Fatal(err)
		}
		h := Holder{Format: lockFormat, Owner: "cron", process: c.p, Epoch: 7, ID: "x", Since: time.Now()}
		for _, name := range []string{epochsName + "/" + epochFile(7), lockName} {
			if err := hdfsio.WriteFile(t.Context(), m, root+"/"+name, encode(h)); err != nil {
				t.Fatal(err)
			}
		}
		l, err := Acquire(t.Context(), m, root, Options{})
		if c.free != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			if l.Epoch() != 8 {
				t.Errorf("%s: epoch %d", what, l.Epoch())
			}
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

// A run that is killed between creating its claim and writing it does not hold up the next one.
func TestAnEmptyClaimIsTakenOverAfterHalfAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := memory()
		if err := m.Mkdir(t.Context(), root+"/"+epochsName); err != nil {
			t.Fatal(err)
		}
		if err := hdfsio.WriteFile(t.Context(), m, root+"/"+epochsName+"/"+epochFile(3), nil); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		l, err := Acquire(t.Context(), m, root, Options{Heartbeat: 4 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("taken over after %s", took)
		}
		if l.Epoch() != 4 {
			t.Errorf("epoch %d", l.Epoch())
		}
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestARunThatIsSlowToWriteItsClaimGetsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, op := range []hdfstest.Op{hdfstest.Write, hdfstest.Close} {
			f, m := memory()
			var quick *Lock
			f.Add(hdfstest.Fault{Op: op, Match: func(n string) bool { return strings.HasSuffix(n, epochFile(1)) }, Nth: 1,
				Hook: func(context.Context, string) {
					var err error
					if quick, err = Acquire(t.Context(), m, root, Options{Owner: "quick", Wait: time.Minute}); err != nil {
						t.Error(err)
					}
				}})
			_, err := Acquire(t.Context(), f, root, Options{Owner: "slow"})
			held, ok := errors.AsType[*Held](err)
			if !ok || held.Holder.Owner != "quick" || hdfsio.KindOf(err) != hdfsio.KindBusy {
				t.Fatalf("slow at %s: %v", op, err)
			}
			if err := quick.Check(t.Context()); err != nil {
				t.Error(err)
			}
			if err := quick.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAcquireTellsWhatTheStoreRefuses(t *testing.T) {
	_, m := memory()
	m.Allow = func(op, name string) error {
		if op == "mkdir" {
			return fs.ErrPermission
		}
		return nil
	}
	if _, err := Acquire(t.Context(), m, root, Options{}); hdfsio.KindOf(err) != hdfsio.KindDenied || !strings.Contains(err.Error(), root) {
		t.Fatalf("%v", err)
	}
}

func TestAFailedAcquireLeavesTheLockFree(t *testing.T) {
	for _, op := range []hdfstest.Op{hdfstest.Create, hdfstest.Write, hdfstest.Close, hdfstest.Rename, hdfstest.List, hdfstest.Open} {
		for nth := 1; nth <= 3; nth++ {
			f, m := memory()
			f.Add(hdfstest.Fault{Op: op, Nth: nth, Err: syscall.ECONNRESET})
			l, err := Acquire(t.Context(), f, root, Options{})
			f.Clear()
			if err != nil {
				if l, err = Acquire(t.Context(), m, root, Options{}); err != nil {
					t.Errorf("after the failed %s number %d: %v", op, nth, err)
					continue
				}
			}
			if err := l.Release(t.Context()); err != nil {
				t.Errorf("%s number %d: %v", op, nth, err)
			}
		}
	}
}

// TestANoteWaitsForTheNextHolder: it outlives the holder that left it, and Collect lets it be.
func TestANoteWaitsForTheNextHolder(t *testing.T) {
	_, m := memory()
	first := acquire(t, m, Options{})
	if note, err := first.Left(t.Context()); err != nil || len(note) > 0 {
		t.Fatalf("%q, %v", note, err)
	}
	for _, note := range []string{"one", "two"} {
		if err := first.Leave(t.Context(), []byte(note)); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := acquire(t, m, Options{})
	if _, err := second.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.Leave(t.Context(), []byte("late")); !errors.Is(err, ErrLost) {
		t.Errorf("who has lost the lock leaves a note: %v", err)
	}
	if note, err := second.Left(t.Context()); err != nil || string(note) != "two" {
		t.Errorf("%q, %v", note, err)
	}
	for range 2 {
		if err := second.Leave(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if note, err := second.Left(t.Context()); err != nil || len(note) > 0 {
		t.Errorf("%q, %v", note, err)
	}
}
