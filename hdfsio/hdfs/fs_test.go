package hdfs

import (
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

func TestARealHDFSKeepsThePromisesOfFS(t *testing.T) {
	f := theBox(t).dial(t, nil)
	hdfstest.TestFS(t, func(t *testing.T) (hdfsio.FS, string) { return f, folder(t, f) })
}
