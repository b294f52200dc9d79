package hdfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
)

// publishOnce is a whole run: lock, stage, version, LATEST.
func publishOnce(ctx context.Context, f hdfsio.FS, root, tag string) (v publish.Version, err error) {
	l, err := publish.Acquire(ctx, f, root, publish.Options{Owner: tag, Wait: time.Minute, Heartbeat: time.Second, StaleAfter: 30 * time.Second})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Release(ctx)) }()
	s, err := l.Stage(ctx)
	if err != nil {
		return 0, err
	}
	defer s.Abort(ctx)
	if err := s.WriteFile(ctx, "weights", noise(100_000)); err != nil {
		return 0, err
	}
	v, err = s.Publish(ctx, func(v publish.Version) error { return s.WriteFile(ctx, "who", []byte(tag)) })
	if err != nil {
		return 0, err
	}
	return v, l.MoveLatest(ctx, v)
}

func TestManyRunsPublishOneAfterTheOtherAndReadersSeeWholeVersions(t *testing.T) {
	f := theBox(t).dial(t, nil)
	root := folder(t, f)
	if _, err := publishOnce(t.Context(), f, root, "first"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			found, err := publish.Latest(t.Context(), f, root)
			if err == nil && found.Warning == "" {
				_, err = publish.Verify(t.Context(), f, root, found.Version)
			}
			if err != nil || found.Warning != "" {
				t.Errorf("a reader found %+v, %v", found, err)
				return
			}
		}
	})
	const runs = 4
	versions := make([]publish.Version, runs)
	for i := range runs {
		writers.Go(func() {
			var err error
			if versions[i], err = publishOnce(t.Context(), f, root, fmt.Sprint("run ", i)); err != nil {
				t.Errorf("run %d: %v", i, err)
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	seen := map[publish.Version]bool{}
	for _, v := range versions {
		seen[v] = true
	}
	if len(seen) != runs {
		t.Errorf("versions %v", versions)
	}
}

// lostAnswers makes the NameNode do a rename whose answer nobody hears.
type lostAnswers struct {
	*FS
	mu   sync.Mutex
	lose bool
}

func (l *lostAnswers) Rename(ctx context.Context, from, to string) error {
	l.mu.Lock()
	lose := l.lose
	l.lose = false
	l.mu.Unlock()
	if !lose {
		return l.FS.Rename(ctx, from, to)
	}
	return l.call(ctx, "rename", from+" to "+to, false, func(c *client) error {
		if err := c.Rename(from, to); err != nil {
			return err
		}
		c.note(about(c.server(), errTorn)) // the connection broke before the answer was read
		return errTorn
	})
}

func TestARenameWhoseAnswerIsLostIsSettledByLooking(t *testing.T) {
	f := &lostAnswers{FS: theBox(t).dial(t, nil), lose: true}
	root := folder(t, f.FS)
	from, to := path.Join(root, "a"), path.Join(root, "b")
	put(t, f.FS, from, []byte("x"))
	err := f.Rename(t.Context(), from, to)
	want(t, err, hdfsio.KindUnreachable, to)
	if _, err := f.Stat(t.Context(), to); err != nil {
		t.Fatalf("the rename was not made: %v", err)
	}
	f.lose = true
	v, err := publishOnce(t.Context(), f, path.Join(root, "model"), "run")
	if err != nil {
		t.Fatal(err)
	}
	if versions, err := publish.Versions(t.Context(), f, path.Join(root, "model")); err != nil || len(versions) != 1 || versions[0] != v {
		t.Errorf("%v, %v; want %v alone", versions, err, v)
	}
}

// admin makes a call that no client of data needs.
func admin(t *testing.T, f *FS, method string, request []byte) {
	t.Helper()
	if err := f.call(t.Context(), method, "admin", true, func(c *client) error {
		if _, err := c.ServerDefaults(); err != nil {
			return err
		}
		_, err := c.own(method, request)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAQuotaThatIsUsedUpIsNoSpace(t *testing.T) {
	f := theBox(t).dial(t, func(o *Options) { o.BlockSize, o.Replication = 1<<20, 1 })
	dir := folder(t, f)
	names, space := path.Join(dir, "names"), path.Join(dir, "space")
	for _, d := range []string{names, space} {
		if err := f.Mkdir(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	const none = 1<<63 - 1
	admin(t, f, "setQuota", appendNumber(appendNumber(appendText(nil, 1, names), 2, 2), 3, none))
	admin(t, f, "setQuota", appendNumber(appendNumber(appendText(nil, 1, space), 2, none), 3, 2<<20))
	put(t, f, path.Join(names, "one"), nil)
	want(t, hdfsio.WriteFile(t.Context(), f, path.Join(names, "two"), nil), hdfsio.KindNoSpace, "two")
	big := path.Join(space, "big")
	want(t, hdfsio.WriteFile(t.Context(), f, big, noise(4<<20)), hdfsio.KindNoSpace, big)
	if _, err := f.Stat(t.Context(), big); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what did not fit is still there: %v", err)
	}
}

// TestAMissingRightIsNamed: the library says no more than "permission denied"; what the NameNode said names the user, the
// right and the folder that it is missing on.
func TestAMissingRightIsNamed(t *testing.T) {
	b := theBox(t)
	dir := folder(t, b.dial(t, nil))
	eve := b.dial(t, func(o *Options) { o.User = "eve" })
	name := path.Join(dir, "f")
	put(t, b.dial(t, nil), name, nil)
	other := path.Join(dir, "g")
	for what, err := range map[string]error{
		"mkdir":  eve.Mkdir(t.Context(), other),
		"create": hdfsio.WriteFile(t.Context(), eve, other, nil),
		"rename": eve.Rename(t.Context(), name, other),
		"remove": eve.Remove(t.Context(), name),
	} {
		t.Run(what, func(t *testing.T) {
			want(t, err, hdfsio.KindDenied, `Permission denied: user=eve, access=WRITE, inode="`+dir+`"`)
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%v is not fs.ErrPermission", err)
			}
		})
	}
}

// TestRefusalsAreReadInAnyPieces: what a NameNode refuses is found among its answers however they are cut by the network.
func TestRefusalsAreReadInAnyPieces(t *testing.T) {
	answer := func(status uint64, exception, message string) []byte {
		header := appendNumber(appendNumber(nil, 1, 7), 2, status)
		if exception != "" {
			header = appendText(appendText(header, 4, exception), 5, message)
		}
		body := protowire.AppendBytes(nil, header)
		body = protowire.AppendBytes(body, bytes.Repeat([]byte{0x10}, 40))
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	stream := slices.Concat(answer(0, "", ""), answer(1, "a.AccessControlException", "no\n\tat"), answer(0, "", ""), answer(2, "b.Other", "never"))
	for size := 1; size <= len(stream); size++ {
		var got []string
		f := frames{refused: func(r *remote) { got = append(got, r.exception+" "+r.Error()) }}
		for piece := range slices.Chunk(stream, size) {
			if err := f.look(piece); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, []string{"a.AccessControlException no", "b.Other never"}) {
			t.Fatalf("pieces of %d bytes: %q", size, got)
		}
	}
}

func TestTheSafeModeAfterAStartIsWaitedForAndOneTurnedOnIsNot(t *testing.T) {
	const refused = "Cannot create file/f. Name node is in safe mode.\n"
	for text, again := range map[string]bool{
		"The reported blocks 0 needs additional 7 blocks to reach the threshold 0.9990 of total blocks 7.\nSafe mode will be turned off automatically once the thresholds have been reached.": true,
		"It was turned on manually. Use \"hdfs dfsadmin -safemode leave\" to turn safe mode off.":                                                                                             false,
	} {
		err := &remote{exception: "org.apache.hadoop.hdfs.server.namenode.SafeModeException", message: refused + text}
		if v := judge(err); v.again != again || v.broken || v.unsure {
			t.Errorf("%s: %+v", text, v)
		}
		if got := wrap("create", "/f", "u", err); got.Error() != "create /f: Name node is in safe mode" {
			t.Errorf("%v", got)
		}
	}
}

// TestOnlyOneCallWaitsForANameNodeThatStaysAway: a run that ends because of it has a stage to remove and locks to give back,
// and would wait for each as long again.
func TestOnlyOneCallWaitsForANameNodeThatStaysAway(t *testing.T) {
	f := theBox(t).dial(t, nil)
	there := f.o.Namenodes
	f.o.Namenodes, f.o.Retry = []string{"127.0.0.1:1"}, time.Millisecond
	f.clients.Close() // and with them the connections to the real one
	_, err := f.Stat(t.Context(), "/")
	want(t, err, hdfsio.KindUnreachable, "/")
	f.o.Retry = time.Hour
	if p := f.patience(); p != awayBudget {
		t.Errorf("after a call that waited in vain the next waits %v", p)
	}
	f.o.Namenodes = there
	if _, err := f.Stat(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	if p := f.patience(); p != time.Hour {
		t.Errorf("after an answer the next call waits %v", p)
	}
}

func TestANameThatIsNeitherHostNorNameServiceIsExplained(t *testing.T) {
	for hint, c := range map[string]*Conf{
		"no configuration is read":              {},
		"the configuration has east, west":      {Dir: "conf", props: map[string]property{"dfs.nameservices": {value: "east,west"}}},
		"HADOOP_CONF_DIR has none of that name": {Dir: "conf"},
	} {
		o, err := c.Resolve("nosuch.invalid")
		if err != nil {
			t.Fatal(err)
		}
		o.Retry = -1
		_, err = Dial(t.Context(), o)
		want(t, err, hdfsio.KindUnreachable, "connect to hdfs://nosuch.invalid: no connection to a NameNode: nosuch.invalid:8020: no such host")
		if e, _ := errors.AsType[*hdfsio.Error](err); !strings.Contains(e.Hint, hint) {
			t.Errorf("hint %q, want one with %q", e.Hint, hint)
		}
	}
}

func TestErasureCodedFilesAreRefusedByName(t *testing.T) {
	f := theBox(t).dial(t, nil)
	dir := folder(t, f)
	const policy = "XOR-2-1-1024k"
	admin(t, f, "enableErasureCodingPolicy", appendText(nil, 1, policy))
	admin(t, f, "setErasureCodingPolicy", appendText(appendText(nil, 1, dir), 2, policy))
	name := path.Join(dir, "f")
	_, err := f.Create(t.Context(), name)
	want(t, err, hdfsio.KindUnsupported, name)
	if !strings.Contains(err.Error(), "erasure") {
		t.Error(err)
	}
	if _, err := f.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the refused file is still there: %v", err)
	}
	if err := f.call(t.Context(), "create", name, false, func(c *client) error { // as somebody else would
		w, err := c.CreateFile(name, 1, 1<<20, 0o644)
		if err != nil {
			return err
		}
		return w.Close()
	}); err != nil {
		t.Fatal(err)
	}
	_, err = f.Open(t.Context(), name)
	want(t, err, hdfsio.KindUnsupported, name)
}

func TestADriverFindsItsClusterThroughTheEnvironment(t *testing.T) {
	b := theBox(t)
	stores := hdfsio.Stores{Drivers: map[string]hdfsio.Driver{"hdfs": Driver(vars("HADOOP_CONF_DIR", path.Join(b.Dir, "conf"), "HADOOP_USER_NAME", b.User))}}
	defer stores.Close()
	for _, text := range []string{"hdfs:///", b.HDFS + "/"} {
		u, err := hdfsio.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		f, err := stores.FS(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(t.Context(), u.Path); err != nil || !info.Dir {
			t.Errorf("%s: %+v, %v", text, info, err)
		}
	}
}
