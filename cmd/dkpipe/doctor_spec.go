package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfs"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
)

// checkTime bounds one check, and portTime one connection: whoever asks a doctor does not want to wait.
const (
	checkTime = 15 * time.Second
	portTime  = 3 * time.Second
)

// examination is one look at a job and all that it needs.
type examination struct {
	*job
	checks []check
	broken map[string]bool // stores that could not be opened, by scheme://authority
}

func (x *examination) add(c ...check) { x.checks = append(x.checks, c...) }

// checkSpec looks at what one job needs.
func (a *app) checkSpec(ctx context.Context, flags *specFlags) []check {
	s, err := flags.read(a, 0)
	if err != nil {
		return []check{failedCheck("spec", err)}
	}
	x := &examination{job: &job{app: a, spec: s, flags: flags, stores: a.newStores(), report: &report{}}, broken: map[string]bool{}}
	defer x.stores.Close()
	x.add(okCheck("spec", "%s", s.File))
	if s.Spark.Remote != "" {
		x.within(ctx, x.checkSpark)
	}
	if x.session != nil {
		defer x.session.Close()
		x.within(ctx, x.checkSettings)
		x.within(ctx, x.checkDriver)
	}
	_, paths := sourceOf(s)
	roots := []struct{ name, uri string }{{"dataset", s.Dataset.Path}, {"output", s.Output.Path}}
	uris := slices.Clone(paths)
	for _, r := range roots {
		uris = append(uris, r.uri)
	}
	x.within(ctx, func(ctx context.Context) { x.checkStores(ctx, uris) })
	if paths != nil || s.Source.Table+s.Source.SQL != "" {
		x.within(ctx, func(ctx context.Context) { x.checkSource(ctx, paths) })
	}
	for _, r := range roots {
		if r.uri != "" {
			x.within(ctx, func(ctx context.Context) { x.checkRoot(ctx, r.name, r.uri) })
		}
	}
	if x.session != nil {
		x.within(ctx, x.checkExecutors)
	}
	x.add(x.checkModel(ctx)...)
	return x.checks
}

// within bounds a check.
func (x *examination) within(ctx context.Context, look func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	look(ctx)
}

// fail adds a check that failed. Whatever did not end within the time of a check is a matter of time.
func (x *examination) fail(ctx context.Context, name string, err error) {
	c := failedCheck(name, err)
	if ctx.Err() != nil {
		c.Kind, c.Detail = pipeline.Timeout, fmt.Sprintf("no answer within %s", checkTime)
		c.Hint = "a server is silent or busy: look at those that failed above, then at its log"
	}
	x.add(c)
}

// place opens the store of a path, once: a store that did not answer is not asked again.
func (x *examination) place(ctx context.Context, name string) (place, bool, error) {
	uri, err := hdfsio.Parse(name)
	if err != nil {
		return place{}, true, err
	}
	if x.broken[uri.Scheme+"://"+uri.Authority] {
		return place{uri: uri, path: uri.Path}, false, nil
	}
	p, err := openPlace(ctx, x.stores, name)
	if err != nil {
		x.broken[uri.Scheme+"://"+uri.Authority] = true
	}
	return p, err == nil, err
}

// checkStores looks at the servers of every HDFS that the job uses.
func (x *examination) checkStores(ctx context.Context, uris []string) {
	var seen []string
	for _, name := range uris {
		uri, err := hdfsio.Parse(name)
		if err != nil || uri.Scheme != "hdfs" || slices.Contains(seen, uri.Authority) {
			continue
		}
		seen = append(seen, uri.Authority)
		label := "hdfs"
		if len(seen) > 1 {
			label = "hdfs " + uri.Authority
		}
		conf, err := hdfs.Load(x.app.env)
		if err != nil {
			x.broken["hdfs://"+uri.Authority] = true
			x.add(failedCheck(label, err))
			continue
		}
		o, err := conf.Resolve(uri.Authority)
		if err != nil {
			x.broken["hdfs://"+uri.Authority] = true
			x.add(failedCheck(label, err))
			continue
		}
		ports := portsCheck(ctx, label+" namenode", "look at the NameNode's log, at the port of its RPC service (not of its web pages) and at firewalls", o.Namenodes)
		x.add(ports)
		if ports.Status == "fail" {
			x.broken["hdfs://"+uri.Authority] = true
			continue
		}
		p, _, err := x.place(ctx, name)
		if err != nil {
			x.fail(ctx, label, err)
			continue
		}
		if h, ok := p.fs.(*hdfs.FS); ok {
			x.add(okCheck(label, "%s answers; there dkpipe is the user %s", h.Service(), h.User()))
			x.checkDatanodes(ctx, label, h, p)
		}
	}
}

const datanodeHint = "readers and writers connect to every datanode: are they running? look at firewalls, and at dfs.client.use.datanode.hostname where datanodes have other addresses inside their network"

// checkDatanodes looks at the ports that readers and writers need. The list of all is the superuser's; for others it is
// those that hold what the job reads.
func (x *examination) checkDatanodes(ctx context.Context, label string, h *hdfs.FS, read place) {
	nodes, err := h.Datanodes(ctx)
	of := ""
	if hdfsio.KindOf(err) == hdfsio.KindDenied {
		files, globErr := hdfsio.Glob(ctx, h, read.path)
		if globErr != nil {
			return // the file that is written later names some
		}
		if nodes, err = h.Holders(ctx, files[0]); err == nil {
			of = "; they hold " + files[0]
		}
	}
	switch {
	case err != nil:
		x.fail(ctx, label+" datanodes", err)
	case len(nodes) == 0:
		x.add(check{Name: label + " datanodes", Status: "fail", Detail: "no datanode is alive", Hint: "start some; hdfs dfsadmin -report lists them", Kind: pipeline.Unreachable})
	default:
		c := portsCheck(ctx, label+" datanodes", datanodeHint, nodes)
		c.Detail += of
		x.add(c)
	}
}

// portsCheck connects to addresses and hangs up. One of several that does not take it is worth a warning.
func portsCheck(ctx context.Context, name, hint string, addresses []string) check {
	type answer struct {
		address string
		err     error
	}
	answers := make(chan answer, len(addresses))
	for _, a := range addresses {
		go func() { answers <- answer{a, knock(ctx, a)} }()
	}
	var silent []string
	for range addresses {
		if a := <-answers; a.err != nil {
			silent = append(silent, fmt.Sprintf("%s (%v)", a.address, a.err))
		}
	}
	slices.Sort(silent)
	switch {
	case silent == nil:
		return okCheck(name, "%s", counted("port", len(addresses), strings.Join(addresses, ", ")))
	case len(silent) < len(addresses):
		return warnCheck(name, hint, "%d of %d do not take connections: %s", len(silent), len(addresses), strings.Join(silent, ", "))
	}
	return check{Name: name, Status: "fail", Detail: "no connection: " + strings.Join(silent, ", "), Hint: hint, Kind: pipeline.Unreachable}
}

// counted says how many things there are, and which when there are few.
func counted(what string, n int, list string) string {
	if n > 1 {
		what += "s"
	}
	if n > 4 {
		return fmt.Sprintf("%d %s reached", n, what)
	}
	return fmt.Sprintf("%s %s reached", what, list)
}

// knock opens a connection and closes it.
func knock(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{Timeout: portTime}).DialContext(ctx, "tcp", address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Err != nil {
			err = op.Err
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			return fmt.Errorf("no answer within %s", portTime)
		}
		return errors.New(strings.TrimPrefix(err.Error(), "connect: "))
	}
	return conn.Close()
}

// checkSource reads the source's header and plans the job on it.
func (x *examination) checkSource(ctx context.Context, paths []string) {
	onSpark := x.spec.Spark.Remote != ""
	if onSpark && x.session == nil {
		x.add(warnCheck("source", "", "not checked: Spark, which reads it, does not answer"))
		return
	}
	for _, name := range paths {
		if _, ok, err := x.place(ctx, name); !ok && err == nil {
			x.add(warnCheck("source", "", "not checked: the store of %s does not answer", name))
			return
		}
	}
	plan, engine, err := x.plan(ctx, true)
	if err == nil && onSpark {
		err = checkSourceRights(ctx, x.stores, x.session, plan.Source)
	}
	if err == nil {
		_, err = engine.Explain(ctx, plan)
	}
	switch {
	case err != nil:
		x.fail(ctx, "source", err)
	case onSpark && len(paths) == 0:
		x.add(okCheck("source", "Spark%s may read it, columns fit the transformers", x.sparkName()))
	case onSpark:
		x.add(okCheck("source", "Spark%s may read %s%s, columns fit the transformers", x.sparkName(), strings.Join(paths, ", "), x.ownReading(ctx, paths)))
	default:
		x.add(okCheck("source", "%d file(s), columns fit the transformers", len(plan.Source.Files)))
	}
}

// ownReading says whether dkpipe's user may read a source on HDFS, too. Preparing data on Spark does not need that.
func (x *examination) ownReading(ctx context.Context, paths []string) string {
	user := ""
	for _, name := range paths {
		p, _, err := x.place(ctx, name)
		h, onHDFS := p.fs.(*hdfs.FS)
		if err != nil || !onHDFS {
			return ""
		}
		user = h.User()
		files, err := hdfsio.Glob(ctx, h, p.path)
		if err == nil {
			var f hdfsio.File
			if f, err = h.Open(ctx, files[0]); err == nil {
				err = f.Close()
			}
		}
		switch {
		case hdfsio.KindOf(err) == hdfsio.KindDenied:
			return fmt.Sprintf(", dkpipe (%s) may not, which only predict on raw data would need", user)
		case err != nil:
			return ""
		}
	}
	return fmt.Sprintf(", and so may dkpipe (%s)", user)
}

func (x *examination) sparkName() string {
	if x.sparkUser == "" {
		return ""
	}
	return " (" + x.sparkUser + ")"
}

func (j *job) checkModel(ctx context.Context) []check {
	if j.spec.Train.Trainer.Name == "" {
		return nil
	}
	if err := j.checkTraining(ctx); err != nil {
		return []check{failedCheck("train", err)}
	}
	return []check{okCheck("train", "%s, %d workers", j.spec.Train.Trainer.Name, j.spec.Train.Workers)}
}

// checkRoot looks at rights, clock, LATEST and space of a root.
func (x *examination) checkRoot(ctx context.Context, name, uri string) {
	p, ok, err := x.place(ctx, uri)
	if !ok {
		if err != nil {
			x.fail(ctx, name, err)
		} else {
			x.add(warnCheck(name, "", "not checked: the store of %s does not answer", uri))
		}
		return
	}
	at := p
	for { // the nearest folder that exists decides whether the root can be made
		if _, err := at.fs.Stat(ctx, at.path); err == nil || !errors.Is(err, fs.ErrNotExist) || at.path == "/" || at.path == "." {
			break
		}
		at = at.join("..")
	}
	if !x.checkWrite(ctx, name, p, at) {
		return
	}
	if name == "dataset" && x.session != nil && !x.spec.Dataset.Live {
		x.checkTry(ctx, p, at)
	}
	if p.uri.Local() {
		x.add(spaceCheck(name+" space", at.path))
	}
	found, err := publish.Latest(ctx, p.fs, p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.add(okCheck(name+" LATEST", "no version yet"))
	case err != nil:
		x.fail(ctx, name+" LATEST", err)
	case found.Warning != "":
		x.add(warnCheck(name+" LATEST", "", "%s", found.Warning))
	default:
		x.add(okCheck(name+" LATEST", "%s", found.Version))
	}
}

// checkWrite writes a small file at a root, or where the root would be made, and removes it. What it learns of HDFS on
// the way, it tells once.
func (x *examination) checkWrite(ctx context.Context, name string, root, at place) bool {
	probe := at.join(fmt.Sprintf(".dkpipe-doctor-%d", time.Now().UnixNano()))
	before := time.Now()
	err := hdfsio.WriteFile(ctx, probe.fs, probe.path, []byte("ok\n"))
	after := time.Now()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), portTime)
		defer cancel()
		_ = probe.fs.Remove(ctx, probe.path) // after an error; else it is gone
	}()
	h, onHDFS := at.fs.(*hdfs.FS)
	if err == nil && onHDFS {
		x.checkStoreClock(ctx, h, probe, before, after)
		if nodes, err := h.Holders(ctx, probe.path); err == nil && !slices.ContainsFunc(x.checks, func(c check) bool { return strings.HasSuffix(c.Name, "datanodes") }) {
			c := portsCheck(ctx, "hdfs datanodes", datanodeHint, nodes)
			c.Detail += "; they got a new file"
			x.add(c)
		}
	}
	if err == nil {
		err = probe.fs.Remove(ctx, probe.path)
	}
	if err != nil {
		x.fail(ctx, name, ownRefusal(root.String(), at, err))
		return false
	}
	rights := ""
	if onHDFS {
		if r, err := h.Rights(ctx, at.path); err == nil {
			rights = fmt.Sprintf(" by %s; %s is %s", h.User(), at.path, r)
		}
	}
	x.add(okCheck(name, "%s can be written%s", root, rights))
	return true
}

func (x *examination) has(name string) bool {
	return slices.ContainsFunc(x.checks, func(c check) bool { return c.Name == name })
}

// checkStoreClock compares the NameNode's clock, which dates files, with ours.
func (x *examination) checkStoreClock(ctx context.Context, h *hdfs.FS, probe place, before, after time.Time) {
	info, err := h.Stat(ctx, probe.path)
	if err != nil || x.has("hdfs clock") {
		return
	}
	x.add(clockCheck("hdfs clock", "the NameNode's", info.ModTime, before, after))
}

// maxSkew is how far clocks may differ before it is worth a word. Locks and leases do not compare clocks; what people
// read in logs and manifests, slots and tokens do.
const maxSkew = 3 * time.Second

// clockCheck says how far another clock is from ours. It was read at some moment between before and after.
func clockCheck(name, whose string, clock, before, after time.Time) check {
	var off time.Duration
	switch {
	case clock.Before(before.Add(-time.Millisecond)): // what is told in milliseconds is cut off, not rounded
		off = clock.Sub(before)
	case clock.After(after):
		off = clock.Sub(after)
	}
	word := "ahead of"
	if off < 0 {
		word = "behind"
	}
	switch {
	case off == 0:
		return okCheck(name, "%s agrees with ours", whose)
	case off.Abs() < maxSkew:
		return okCheck(name, "%s is %s %s ours", whose, off.Abs().Round(time.Millisecond), word)
	}
	return warnCheck(name, "set both by NTP: slots, tokens and what logs say depend on it", "%s is %s %s ours", whose, off.Abs().Round(100*time.Millisecond), word)
}
