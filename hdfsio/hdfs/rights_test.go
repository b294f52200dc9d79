package hdfs

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"testing"

	"dkpipe/hdfsio"
)

// TestGrantsLetAnotherUserIn: what one user made with the umask of careful clusters is closed to another one, until an
// entry in its access control list opens it; what is made in the folder later is open as well.
func TestGrantsLetAnotherUserIn(t *testing.T) {
	b := theBox(t)
	mine := b.dial(t, func(o *Options) { o.Umask = new(uint32(0o027)) })
	theirs := b.dial(t, func(o *Options) { o.User, o.Umask = "somebody", new(uint32(0o027)) })
	top := folder(t, mine)
	if err := mine.Chmod(t.Context(), top, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := path.Join(top, "d")
	if err := mine.Mkdir(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	put(t, mine, path.Join(dir, "old"), []byte("x"))
	r, err := mine.Rights(t.Context(), dir)
	if err != nil || r.Owner != mine.User() || r.Mode != 0o750 || !r.Dir || r.Listed {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := theirs.ReadDir(t.Context(), dir); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another user lists it: %v", err)
	}
	err = mine.Grant(t.Context(), dir, Grant{User: "somebody", Perm: 7}, Grant{User: "somebody", Perm: 7, Inherit: true}, Grant{User: mine.User(), Perm: 7, Inherit: true})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := mine.Rights(t.Context(), dir); err != nil || !r.Listed || r.String() != r.Owner+":"+r.Group+":drwxrwx---+" {
		t.Errorf("after the grant: %v, %v", r, err)
	}
	put(t, theirs, path.Join(dir, "new"), []byte("y"))
	if got, err := hdfsio.ReadFile(t.Context(), theirs, path.Join(dir, "new"), 10); err != nil || string(got) != "y" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := theirs.Open(t.Context(), path.Join(dir, "old")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a file that was there before is open: %v", err)
	}
	all, err := mine.DirRights(t.Context(), dir)
	if err != nil || len(all) != 2 || all["new"].Owner != "somebody" || all["old"].Mode != 0o640 || all["old"].Dir {
		t.Errorf("%v, %v", all, err)
	}
	if err := theirs.Grant(t.Context(), dir, Grant{User: "x", Perm: 1}); hdfsio.KindOf(err) != hdfsio.KindDenied {
		t.Errorf("a user who does not own it gives rights: %v", err)
	}
	if err := theirs.Chmod(t.Context(), dir, 0o777); hdfsio.KindOf(err) != hdfsio.KindDenied {
		t.Errorf("a user who does not own it changes the mode: %v", err)
	}
}

func TestDatanodesAreToldToTheSuperuserAndHoldersToAll(t *testing.T) {
	b := theBox(t)
	super := b.dial(t, nil)
	var want []string
	for _, d := range b.Datanodes {
		want = append(want, d.Address)
	}
	slices.Sort(want)
	nodes, err := super.Datanodes(t.Context())
	slices.Sort(nodes)
	if err != nil || !slices.Equal(nodes, want) {
		t.Errorf("datanodes %v, %v; want %v", nodes, err, want)
	}
	other := b.dial(t, func(o *Options) { o.User = "somebody" })
	if _, err := other.Datanodes(t.Context()); hdfsio.KindOf(err) != hdfsio.KindDenied {
		t.Errorf("datanodes for somebody: %v", err)
	}
	name := path.Join(folder(t, super), "f")
	put(t, super, name, []byte("x"))
	nodes, err = super.Holders(t.Context(), name)
	if err != nil || len(nodes) == 0 || slices.ContainsFunc(nodes, func(n string) bool { return !slices.Contains(want, n) }) {
		t.Errorf("holders %v, %v; datanodes %v", nodes, err, want)
	}
	if _, err := super.Holders(t.Context(), name+"-absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("holders of nothing: %v", err)
	}
}

func TestRightsReadAsHDFSPrintsThem(t *testing.T) {
	for want, r := range map[string]Rights{
		"a:b:-rw-r-----":  {Owner: "a", Group: "b", Mode: 0o640},
		"a:b:drwxrwxrwt":  {Owner: "a", Group: "b", Mode: 0o1777, Dir: true},
		"a:b:drwxr-x--T+": {Owner: "a", Group: "b", Mode: 0o1750, Dir: true, Listed: true},
		"a:b:d---------":  {Owner: "a", Group: "b", Dir: true},
	} {
		if got := r.String(); got != want {
			t.Errorf("%+v: %s, want %s", r, got, want)
		}
	}
}
