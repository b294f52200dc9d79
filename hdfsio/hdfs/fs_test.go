package hdfs

import (
	"fmt"
	"path"
	"sync"
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

func TestARealHDFSKeepsThePromisesOfFS(t *testing.T) {
	f := theBox(t).dial(t, nil)
	hdfstest.TestFS(t, func(t *testing.T) (hdfsio.FS, string) { return f, folder(t, f) })
}

func TestAFolderOfMoreThanOneAnswerIsListedWhole(t *testing.T) {
	f := theBox(t).dial(t, nil)
	dir := folder(t, f)
	const many = 1100 // the NameNode gives 1000 entries at once
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; i < many; i += 4 {
				if err := f.Mkdir(t.Context(), path.Join(dir, fmt.Sprintf("%04d", i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	infos, err := f.ReadDir(t.Context(), dir)
	if err != nil || len(infos) != many {
		t.Fatalf("%d entries, %v", len(infos), err)
	}
	for i, info := range infos {
		if want := fmt.Sprintf("%04d", i); info.Name != want || !info.Dir {
			t.Fatalf("entry %d is %+v", i, info)
		}
	}
}
