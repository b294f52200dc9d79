package hdfs

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/colinmarc/hdfs/v2"
	"google.golang.org/protobuf/encoding/protowire"

	"dkpipe/hdfsio"
)

// User is whom HDFS takes us for.
func (f *FS) User() string { return f.o.User }

// Service names the cluster in messages: a name service or host:port.
func (f *FS) Service() string { return f.o.Service }

// Namenodes gives the addresses of the NameNodes, host:port.
func (f *FS) Namenodes() []string { return slices.Clone(f.o.Namenodes) }

// Rights say to whom something on HDFS belongs, and who may do what with it.
type Rights struct {
	Owner, Group string
	Mode         uint32 // the permission bits, 01777 at most; with Listed, the group's are the mask of the list
	Dir          bool
	Listed       bool // an access control list says more
}

// String gives rights as HDFS itself prints them: ann:team:drwxr-x---.
func (r Rights) String() string {
	bits := []byte("-rwxrwxrwx")
	if r.Dir {
		bits[0] = 'd'
	}
	for i := range 9 {
		if r.Mode&(1<<(8-i)) == 0 {
			bits[1+i] = '-'
		}
	}
	if r.Mode&0o1000 != 0 {
		bits[9] = 'T'
		if r.Mode&1 != 0 {
			bits[9] = 't'
		}
	}
	s := r.Owner + ":" + r.Group + ":" + string(bits)
	if r.Listed {
		s += "+"
	}
	return s
}

// Rights of a file or folder.
func (f *FS) Rights(ctx context.Context, name string) (Rights, error) {
	name, err := f.clean("stat", name)
	if err != nil {
		return Rights{}, err
	}
	fi, err := f.stat(ctx, "stat", name)
	if err != nil {
		return Rights{}, err
	}
	return rightsOf(fi), nil
}

// DirRights gives the rights of everything in a folder, by name.
func (f *FS) DirRights(ctx context.Context, dir string) (map[string]Rights, error) {
	dir, err := f.clean("list", dir)
	if err != nil {
		return nil, err
	}
	var found map[string]Rights
	err = f.call(ctx, "list", f.URI(dir), true, func(c *client) error {
		entries, err := c.ReadDir(dir)
		if err != nil {
			return err
		}
		found = make(map[string]Rights, len(entries))
		for _, e := range entries {
			found[e.Name()] = rightsOf(e)
		}
		return nil
	})
	return found, err
}

// flagListed is the flag of HdfsFileStatusProto that an access control list is there.
const flagListed = 1

func rightsOf(fi os.FileInfo) Rights {
	r := Rights{Dir: fi.IsDir()}
	if s, ok := fi.Sys().(*hdfs.FileStatus); ok {
		r.Owner, r.Group, r.Mode = s.GetOwner(), s.GetGroup(), s.GetPermission().GetPerm()&0o1777
		r.Listed = s.GetFlags()&flagListed != 0
	}
	return r
}

// Chmod sets the permission bits of a file or folder, as they are: no mask takes some off.
func (f *FS) Chmod(ctx context.Context, name string, mode uint32) error {
	name, err := f.clean("chmod", name)
	if err != nil {
		return err
	}
	return f.call(ctx, "chmod", f.URI(name), true, func(c *client) error { return c.Chmod(name, os.FileMode(mode&0o1777)) })
}

// Grant is a right for one user in an access control list.
type Grant struct {
	User    string
	Perm    uint8 // 4 to read or list, 2 to write, 1 to enter a folder; added up
	Inherit bool  // for what is made in the folder from now on, not for the folder itself
}

// ErrNoLists is the class of the error of Grant on an HDFS that does without access control lists.
var ErrNoLists = errors.New("access control lists are switched off (dfs.namenode.acls.enabled)")

// Grant adds entries to the access control list of a file or folder, as hdfs dfs -setfacl -m does; entries of the same
// users are replaced. Only the owner and the superuser may do this.
func (f *FS) Grant(ctx context.Context, name string, grants ...Grant) error {
	name, err := f.clean("setfacl", name)
	if err != nil {
		return err
	}
	// ModifyAclEntriesRequestProto of AclEntryProto: type (0: a user), scope (1: default), permissions, name.
	request := appendText(nil, 1, name)
	for _, g := range grants {
		scope := uint64(0)
		if g.Inherit {
			scope = 1
		}
		e := appendNumber(appendNumber(appendNumber(nil, 1, 0), 2, scope), 3, uint64(g.Perm&7))
		request = appendBytes(request, 2, appendText(e, 4, g.User))
	}
	return f.call(ctx, "setfacl", f.URI(name), true, func(c *client) error {
		if _, err := c.Stat(name); err != nil { // connects to the active NameNode
			return err
		}
		_, err := c.own("modifyAclEntries", request)
		var no *remote
		if errors.As(err, &no) && exceptionIs(err, "AclException") && strings.Contains(no.message, "disabled") {
			return &hdfsio.Error{Op: "setfacl", Path: f.URI(name), Kind: hdfsio.KindUnsupported, Err: ErrNoLists,
				Hint: "set dfs.namenode.acls.enabled on the NameNode, or use a group that both users are in"}
		}
		return err
	})
}

// Datanodes gives the addresses, host:port, where living datanodes take readers and writers. The NameNode tells them
// to its superuser only; the error is of kind denied for others, who may ask for the Holders of a file.
func (f *FS) Datanodes(ctx context.Context) ([]string, error) {
	var found []string
	err := f.call(ctx, "report of", "datanodes", true, func(c *client) error {
		if _, err := c.Stat("/"); err != nil { // connects to the active NameNode
			return err
		}
		const live = 2 // DatanodeReportTypeProto
		answer, err := c.own("getDatanodeReport", appendNumber(nil, 1, live))
		if err != nil {
			return err
		}
		found = nil
		return scan(answer, func(num protowire.Number, _ uint64, s []byte) error {
			if num != 1 {
				return nil
			}
			r, err := parseReplica(s, c.o.UseDatanodeHostname)
			found = append(found, r.address)
			return err
		})
	})
	return found, err
}

// Holders gives the addresses of the datanodes that hold blocks of a file.
func (f *FS) Holders(ctx context.Context, name string) ([]string, error) {
	name, err := f.clean("locate", name)
	if err != nil {
		return nil, err
	}
	var found []string
	err = f.call(ctx, "locate", f.URI(name), true, func(c *client) error {
		if _, err := c.Stat(name); err != nil { // connects to the active NameNode
			return err
		}
		l, err := c.locate(name)
		if err != nil {
			return err
		}
		found = nil
		for _, b := range l.blocks {
			for _, r := range b.replicas {
				if !slices.Contains(found, r.address) {
					found = append(found, r.address)
				}
			}
		}
		return nil
	})
	return found, err
}
