package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfs"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/sparkconn"
)

// HDFS may know dkpipe and Spark as two users. dkpipe makes the folder of a version, Spark makes files and folders in it,
// and dkpipe reads, renames and at last removes them. With the umask that careful clusters have, 027, neither may touch
// what the other made, so dkpipe gives both a place in the access control list of every folder that Spark shall write
// into. Whether that is enough is not computed but tried, before any work: folders above, groups, lists that are switched
// off and settings of servers all have a say.

// checkRights finds out whether Spark and dkpipe can make a version together. It tries with one row in a folder of its
// own, which is gone afterwards. Errors are of kind denied and name the user, the right, the folder and the command.
func (j *job) checkRights(ctx context.Context, root place, lock *publish.Lock, engine pipeline.Engine, src pipeline.Source) error {
	e, ok := engine.(sparkconn.Engine)
	if !ok {
		return nil
	}
	if _, err := lock.Collect(ctx); hdfsio.KindOf(err) == hdfsio.KindDenied {
		j.leftBehind(ctx, err)
	} else if err != nil {
		return err
	}
	t := j.newTry(e.Session, root, root, j.id)
	if err := t.run(ctx); err != nil {
		return err
	}
	for _, dir := range t.opened {
		j.app.log.Info("Spark's user was given the right to enter a folder of dkpipe's", "user", t.user, "folder", dir)
	}
	if !t.two() {
		return nil
	}
	j.sparkUser = t.user
	return checkSourceRights(ctx, j.stores, e.Session, src)
}

// shareStage lets Spark write into the folder of a version, and dkpipe remove what Spark writes.
func (j *job) shareStage(ctx context.Context, root place, dir string) error {
	h, ok := root.fs.(*hdfs.FS)
	if !ok || j.sparkUser == "" {
		return nil
	}
	_, err := share(ctx, h, dir, j.sparkUser)
	return err
}

// share gives Spark's user all rights on a folder, and both users all on what will be made in it. An HDFS without access
// control lists has but the group: then both users must be in the folder's, which is that of the folder above.
func share(ctx context.Context, h *hdfs.FS, dir, user string) (listed bool, err error) {
	err = h.Grant(ctx, dir, hdfs.Grant{User: user, Perm: 7}, hdfs.Grant{User: user, Perm: 7, Inherit: true}, hdfs.Grant{User: h.User(), Perm: 7, Inherit: true})
	if !errors.Is(err, hdfs.ErrNoLists) {
		return true, err
	}
	r, err := h.Rights(ctx, dir)
	if err != nil {
		return false, err
	}
	return false, h.Chmod(ctx, dir, r.Mode|0o070)
}

// try is one row that Spark writes and dkpipe reads, renames and removes.
type try struct {
	session *sparkconn.Session
	root    place    // of the dataset
	in      place    // where the folder of the try is made: the root, or what is there of the path to it
	at      place    // that folder: where it is now
	hdfs    *hdfs.FS // nil: another store, where nothing can be given
	roots   []string // paths on that HDFS where this job keeps what it makes

	user   string   // Spark's; empty: not known
	shared bool     // with that user
	groups bool     // this HDFS has no access control lists
	opened []string // folders that the user was given the right to enter

	looking bool // give nothing but on the folder of the try
	closed  bool // looking: Spark's user would be given the right to enter a folder
}

// newTry names a folder for a try. Its name is that of a stage, so that the next run removes it when this process dies.
func (j *job) newTry(s *sparkconn.Session, root, in place, id string) *try {
	t := &try{session: s, root: root, in: in, at: in.join(".stage-try-" + id), roots: []string{root.path}}
	t.hdfs, _ = root.fs.(*hdfs.FS)
	if u, err := hdfsio.Parse(j.spec.Output.Path); err == nil && u.Scheme == root.uri.Scheme && u.Authority == root.uri.Authority {
		t.roots = append(t.roots, u.Path)
	}
	return t
}

// two tells whether Spark is another user than dkpipe.
func (t *try) two() bool { return t.hdfs != nil && t.user != "" && t.user != t.hdfs.User() }

// run makes the try and removes what it left, also after an error.
func (t *try) run(ctx context.Context) (err error) {
	defer func() {
		if left := t.clear(ctx); err == nil {
			err = left
		}
	}()
	if t.hdfs != nil {
		t.user, err = t.session.StoreUser(ctx)
		if err != nil && pipelineKind(err) != pipeline.Unsupported { // some servers do not tell: then a refusal will
			return err
		}
	}
	if err := t.root.fs.Mkdir(ctx, t.at.path); err != nil {
		return err
	}
	if t.two() {
		if err := t.share(ctx); err != nil {
			return err
		}
	}
	if err := t.write(ctx); err != nil {
		return err
	}
	err = t.use(ctx)
	if hdfsio.KindOf(err) != hdfsio.KindDenied || t.shared || !t.two() {
		return err
	}
	// Spark did not tell who it is, and could write without being given anything.
	if err := t.session.ProbeClear(ctx, t.uri()); err != nil {
		return t.explain(ctx, err)
	}
	if err := t.share(ctx); err != nil {
		return err
	}
	if err := t.root.fs.Remove(ctx, t.at.join("data").path); err != nil {
		return err
	}
	if err := t.write(ctx); err != nil {
		return err
	}
	return t.use(ctx)
}

func (t *try) share(ctx context.Context) error {
	t.shared = true
	listed, err := share(ctx, t.hdfs, t.at.path, t.user)
	t.groups = !listed
	return err
}

// write has Spark write, and gives it the rights that a refusal shows to be missing, where they are dkpipe's to give.
func (t *try) write(ctx context.Context) error {
	for {
		err := t.session.ProbeWrite(ctx, t.uri())
		d, refused := sparkconn.DenialOf(err)
		if !refused || t.hdfs == nil {
			return t.explain(ctx, err)
		}
		t.user = d.User
		switch {
		case d.Path == t.at.path && !t.shared:
			if err := t.share(ctx); err != nil {
				return err
			}
		case d.Access == "EXECUTE" && !slices.Contains(t.opened, d.Path) && t.mine(ctx, d.Path):
			if t.looking {
				t.closed = true
				return t.explain(ctx, err)
			}
			if t.hdfs.Grant(ctx, d.Path, hdfs.Grant{User: t.user, Perm: 1}) != nil { // Spark's refusal says it better
				return t.explain(ctx, err)
			}
			t.opened = append(t.opened, d.Path)
		default:
			return t.explain(ctx, err)
		}
	}
}

// mine tells whether a folder on the way to the root belongs to dkpipe's user and holds nothing but what this job makes:
// a folder that dkpipe has made, in most cases. Only such are opened, to be entered and not to be listed.
func (t *try) mine(ctx context.Context, dir string) bool {
	r, err := t.hdfs.Rights(ctx, dir)
	if err != nil || r.Owner != t.hdfs.User() {
		return false
	}
	if dir == t.root.path {
		return true
	}
	entries, err := t.hdfs.ReadDir(ctx, dir)
	return err == nil && !slices.ContainsFunc(entries, func(e hdfsio.Info) bool {
		name := path.Join(dir, e.Name)
		return name != t.at.path && !slices.ContainsFunc(t.roots, func(root string) bool { return root == name || strings.HasPrefix(root, name+"/") })
	})
}

// uri is the folder as Spark sees it.
func (t *try) uri() string {
	u := t.at.uri
	if u.Local() {
		if abs, err := filepath.Abs(u.Path); err == nil {
			u.Path = abs
		}
	}
	return u.String()
}

// use does with Spark's file what is done with a version: it is read, renamed with its folder, and removed.
func (t *try) use(ctx context.Context) error {
	file, owner := "", ""
	err := hdfsio.Walk(ctx, t.root.fs, t.at.join("data").path, func(name string, info hdfsio.Info) error {
		if !info.Dir && !hdfsio.Hidden(info.Name) {
			file, owner = name, info.Owner
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) || err == nil && file == "" {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("dataset %s: what Spark writes there does not arrive where dkpipe looks: they do not share this store", t.root),
			Hint: "name one that both reach, and by its full name, for example hdfs://namenode:8020/" + strings.TrimPrefix(t.root.uri.Base(), "/")}
	}
	var ofFile, ofFolder hdfs.Rights
	if t.hdfs != nil {
		if t.user == "" {
			t.user = owner
		}
		// What cannot be asked is not said.
		ofFolder, _ = t.hdfs.Rights(ctx, t.at.join("data").path)
		ofFile, _ = t.hdfs.Rights(ctx, file)
	}
	if err != nil {
		return t.mayNot("list", ofFolder, err)
	}
	if _, err := hdfsio.ReadFile(ctx, t.root.fs, file, 1<<20); err != nil {
		return t.mayNot("read", ofFile, err)
	}
	moved := t.in.join(".trash-" + strings.TrimPrefix(path.Base(t.at.path), ".stage-"))
	if err := t.root.fs.Rename(ctx, t.at.path, moved.path); err != nil {
		return err
	}
	t.at = moved
	return t.mayNot("remove", ofFolder, t.root.fs.Remove(ctx, t.at.path))
}

// mayNot is the error that dkpipe's user lacks a right on what Spark wrote: a file, or the folder that holds it.
func (t *try) mayNot(what string, r hdfs.Rights, err error) error {
	if hdfsio.KindOf(err) != hdfsio.KindDenied || t.hdfs == nil {
		return err
	}
	made := "a file"
	if r.Dir {
		made = "a folder"
	}
	hint := "let what Spark makes inherit access control lists whole, dfs.namenode.posix.acl.inheritance.enabled=true on the NameNode, " +
		"or start Spark with spark.hadoop.fs.permissions.umask-mode=007"
	if t.groups {
		hint = t.oneGroup()
	}
	return &pipeline.Error{Kind: pipeline.Denied, Hint: hint,
		Message: fmt.Sprintf("dataset %s: dkpipe is the HDFS user %s, who may not %s what Spark's user %s writes: %s of Spark's is %s", t.root, t.hdfs.User(), what, t.user, made, r)}
}

// oneGroup says what to do on an HDFS without access control lists.
func (t *try) oneGroup() string {
	return fmt.Sprintf("this HDFS has no access control lists: set dfs.namenode.acls.enabled=true on the NameNode, or put %s and %s into one group, "+
		"hdfs dfs -chgrp -R GROUP %[3]s && hdfs dfs -chmod g+rx %[3]s, and start Spark with spark.hadoop.fs.permissions.umask-mode=007", t.hdfs.User(), t.user, t.root.path)
}

// clear removes what is left of the try: what dkpipe may not remove Spark does.
func (t *try) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err := t.root.fs.Remove(ctx, t.at.path)
	if hdfsio.KindOf(err) == hdfsio.KindDenied && t.session.ProbeClear(ctx, t.uri()) == nil {
		err = t.root.fs.Remove(ctx, t.at.path)
	}
	return err
}

// explain turns a refusal that Spark met into an error that says what is missing, to whom, and how it is given.
func (t *try) explain(ctx context.Context, err error) error {
	d, refused := sparkconn.DenialOf(err)
	if !refused || t.hdfs == nil {
		return err
	}
	next := slices.DeleteFunc(between(d.Path, t.root.path), func(dir string) bool { return t.mine(ctx, dir) })
	hint := giving(d, d.Path, next...)
	if t.groups {
		hint = t.oneGroup()
	}
	return refusal("Spark", d, "dataset "+t.root.String(), hint)
}

// between lists the folders below one that was refused and above a root: they may be refused next.
func between(refused, root string) []string {
	var dirs []string
	for dir := path.Dir(root); dir != "/" && strings.HasPrefix(dir, strings.TrimSuffix(refused, "/")+"/"); dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}

// refusal is the error about a right that a user lacks; who is Spark or dkpipe.
func refusal(who string, d sparkconn.Denial, what, hint string) error {
	verb := map[string]string{"EXECUTE": "enter", "WRITE": "write in", "READ": "read", "READ_EXECUTE": "list"}[d.Access]
	if verb == "" {
		verb = "use (" + d.Access + ")"
	}
	return &pipeline.Error{Kind: pipeline.Denied, Hint: hint,
		Message: fmt.Sprintf("%s: %s is the HDFS user %s, who may not %s %s (%s)", what, who, d.User, verb, d.Path, d.Rights)}
}

// ownRefusal names the right that dkpipe's own user lacks at a root, or where that is to be made; other errors stay.
func ownRefusal(what string, at place, err error) error {
	d, refused := sparkconn.DenialOf(err)
	if !refused || hdfsio.KindOf(err) != hdfsio.KindDenied {
		return err
	}
	hint := giving(d, d.Path)
	if d.Path == at.path { // who may enter wants to write next
		owner, _, _ := strings.Cut(d.Rights, ":")
		hint = fmt.Sprintf("name a folder of your own, or, as %s or the superuser: hdfs dfs -setfacl -m user:%s:rwx %s", owner, d.User, d.Path)
	}
	return refusal("dkpipe", d, what, hint)
}

// giving says how a right is given on a file or folder, and the right to enter more folders.
func giving(d sparkconn.Denial, name string, more ...string) string {
	owner, _, _ := strings.Cut(d.Rights, ":")
	user := "user:" + d.User
	entry, all := user+":rwx,default:"+user+":rwx", ""
	switch {
	case d.Access == "EXECUTE":
		entry = user + ":--x"
	case d.Access == "READ" && name == d.Path: // a file
		entry = user + ":r--"
	case strings.HasPrefix(d.Access, "READ"): // a folder, with all that is and will be in it
		entry, all = user+":r-x,default:"+user+":r-x", "-R "
	}
	text := fmt.Sprintf("as %s or the superuser: hdfs dfs -setfacl %s-m %s %s", owner, all, entry, name)
	for _, dir := range more {
		text += fmt.Sprintf(" && hdfs dfs -setfacl -m %s:--x %s", user, dir)
	}
	return text
}

// checkSourceRights finds out whether Spark's user may read the files of a source. Files that have the same owner, group
// and rights and stand in the same folder are alike: Spark opens one of each kind.
func checkSourceRights(ctx context.Context, stores *hdfsio.Stores, s *sparkconn.Session, src pipeline.Source) error {
	if len(src.Files) == 0 {
		return nil // a table, a query: Spark says it before it computes anything
	}
	err := s.ProbeRead(ctx, src.Files...)
	for _, file := range kindsOfFiles(ctx, stores, src.Files) {
		if err == nil {
			err = s.ProbeRead(ctx, file)
		}
	}
	if _, refused := sparkconn.DenialOf(err); !refused {
		return nil // whatever else is wrong, the engine says it better
	}
	return sourceRefusal(src, err)
}

// sourceRefusal names the right that Spark's user lacks on a source; other errors stay.
func sourceRefusal(src pipeline.Source, err error) error {
	d, refused := sparkconn.DenialOf(err)
	if !refused || pipelineKind(err) != pipeline.Denied {
		return err
	}
	name := d.Path
	if d.Access == "READ" && !slices.ContainsFunc(src.Files, func(f string) bool { return strings.HasSuffix(f, d.Path) }) {
		name = path.Dir(d.Path) // one of many files
	}
	return refusal("Spark", d, "source", giving(d, name))
}

// maxKinds bounds how many kinds of files are tried.
const maxKinds = 16

// kindsOfFiles gives a file of each kind, as far as dkpipe itself may list them: it need not.
func kindsOfFiles(ctx context.Context, stores *hdfsio.Stores, paths []string) []string {
	var examples []string
	for _, name := range paths {
		p, err := openPlace(ctx, stores, name)
		if err != nil {
			return examples
		}
		h, ok := p.fs.(*hdfs.FS)
		if !ok {
			continue
		}
		files, err := hdfsio.Glob(ctx, h, p.path)
		if err != nil {
			continue
		}
		seen := map[string]bool{}
		listed := map[string]map[string]hdfs.Rights{}
		for _, f := range files {
			dir := path.Dir(f)
			if listed[dir] == nil {
				if listed[dir], err = h.DirRights(ctx, dir); err != nil {
					break
				}
			}
			r := listed[dir][path.Base(f)]
			kind := dir + " " + r.String()
			if r.Listed { // each list may be another
				kind = f
			}
			if !seen[kind] && len(examples) < maxKinds {
				seen[kind] = true
				u := p.uri
				u.Path = f
				examples = append(examples, u.String())
			}
		}
	}
	return examples
}
