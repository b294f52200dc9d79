//go:build !unix

package hdfsio

import (
	"io/fs"
	"os"
)

// ownerOf knows nothing here.
func ownerOf(fs.FileInfo) (uid uint32, id uint64, ok bool) { return 0, 0, false }

func userName(uint32) string { return "" }

// unlinked cannot happen: an open file keeps its name.
func unlinked(*os.File) bool { return false }

// syncDir has no counterpart here.
func syncDir(string) error { return nil }
