//go:build unix

package hdfsio

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ownerOf gives the user id and the inode.
func ownerOf(fi fs.FileInfo) (uid uint32, id uint64, ok bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return st.Uid, uint64(st.Ino), true
}

// userName gives a user's name, or the number as text.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// unlinked tells whether an open file has lost its name.
func unlinked(f *os.File) bool {
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

// syncDir makes a folder's entries durable. File systems that cannot sync folders say EINVAL; there is no more to do.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !isInvalid(err) {
		return err
	}
	return nil
}

func isInvalid(err error) bool {
	e, ok := bare(err).(syscall.Errno)
	return ok && (e == syscall.EINVAL || e == syscall.ENOTSUP)
}
