package hdfsio_test

import (
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

func TestLocalKeepsThePromises(t *testing.T) {
	hdfstest.TestFS(t, func(t *testing.T) (hdfsio.FS, string) { return &hdfsio.Local{}, t.TempDir() })
}

func TestLocalKeepsThePromisesWithRelativeNames(t *testing.T) {
	hdfstest.TestFS(t, func(t *testing.T) (hdfsio.FS, string) {
		t.Chdir(t.TempDir())
		return &hdfsio.Local{}, "."
	})
}

func TestMemKeepsThePromises(t *testing.T) {
	hdfstest.TestFS(t, func(t *testing.T) (hdfsio.FS, string) {
		m := &hdfsio.Mem{Owner: "alice"}
		if err := m.Mkdir(t.Context(), "/work"); err != nil {
			t.Fatal(err)
		}
		return m, "/work"
	})
}

func TestFaultsWithoutAFaultKeepThePromises(t *testing.T) {
	hdfstest.TestFS(t, func(t *testing.T) (hdfsio.FS, string) {
		f := &hdfstest.Faults{FS: &hdfsio.Mem{}}
		if err := f.Mkdir(t.Context(), "/work"); err != nil {
			t.Fatal(err)
		}
		return f, "/work"
	})
}
