package hdfsio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Driver makes the FS of one store. The authority is the part of a URI between the slashes: a name service or
// host:port, or empty for the configured default.
type Driver func(ctx context.Context, authority string) (FS, error)

// Stores opens the store that a URI names and keeps it for the next URI of the same store. The zero value serves
// local files. It may be used from several goroutines; Drivers must not change once it is in use.
type Stores struct {
	Drivers map[string]Driver // by scheme, beside the built-in file

	mu   sync.Mutex
	open map[string]FS // by scheme://authority
}

// FS gives the store that u names. The kind of the error is unsupported when no driver serves the scheme.
// The FS belongs to the Stores: Close ends it.
func (s *Stores) FS(ctx context.Context, u URI) (FS, error) {
	key := u.Scheme + "://" + u.Authority
	s.mu.Lock()
	defer s.mu.Unlock()
	if fsys, ok := s.open[key]; ok {
		return fsys, nil
	}
	fsys, err := s.dial(ctx, u)
	if err != nil {
		return nil, err
	}
	if s.open == nil {
		s.open = make(map[string]FS)
	}
	s.open[key] = fsys
	return fsys, nil
}

// dial makes the FS for a URI.
func (s *Stores) dial(ctx context.Context, u URI) (FS, error) {
	if driver := s.Drivers[u.Scheme]; driver != nil {
		fsys, err := driver(ctx, u.Authority)
		return fsys, Wrap("connect to", u.String(), err)
	}
	if u.Local() {
		return &Local{}, nil
	}
	served := slices.Sorted(maps.Keys(s.Drivers))
	if !slices.Contains(served, SchemeFile) {
		served = append([]string{SchemeFile}, served...)
	}
	hint := "name a path of one of these"
	if u.Scheme == "hdfs" {
		hint = "copy the data to a local folder first (hdfs dfs -get " + u.String() + " DIR) and name DIR"
	}
	return nil, &Error{Op: "open", Path: u.String(), Kind: KindUnsupported, Hint: hint,
		Err: fmt.Errorf("%w %q; served: %s", errNoDriver, u.Scheme, strings.Join(served, ", "))}
}

var errNoDriver = errors.New("no store serves the scheme")

// Close closes every store that can be closed. The Stores may be used again afterwards.
func (s *Stores) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, fsys := range s.open {
		if c, ok := fsys.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	s.open = nil
	return errors.Join(errs...)
}
