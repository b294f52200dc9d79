package hdfsio

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// SchemeFile is the scheme of local paths.
const SchemeFile = "file"

// URI names a file or folder together with its store. The zero value names nothing.
type URI struct {
	Scheme    string // lower case: file, hdfs
	Authority string // name service, or host:port; empty for local files and for the configured default
	Path      string // clean and slash-separated; absolute except for plain local paths, which may be relative
}

// Parse reads what users write for a path: hdfs://ns/p, hdfs://host:port/p, hdfs:///p (the configured default),
// hdfs:/p, file:///p, file:/p or a plain path. Like Hadoop it takes the path as it stands: nothing is
// percent-decoded, and ?, # and spaces are part of the name. A colon makes a scheme only together with a slash, so a
// file called "run:3.csv" is a plain path. Whether a store is there for the scheme is for Stores to say.
func Parse(s string) (URI, error) {
	switch {
	case s == "":
		return URI{}, uriError(s, "the path is empty")
	case strings.ContainsRune(s, 0) || !utf8.ValidString(s):
		return URI{}, uriError(s, "the path holds bytes that are not text")
	}
	scheme, rest, ok := cutScheme(s)
	if !ok {
		return URI{Scheme: SchemeFile, Path: path.Clean(s)}, nil
	}
	u := URI{Scheme: scheme}
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		i := strings.IndexByte(after, '/')
		if i < 0 {
			i = len(after)
		}
		u.Authority, rest = after[:i], after[i:]
	}
	if rest == "" {
		rest = "/"
	}
	u.Path = path.Clean(rest)
	if u.Scheme == SchemeFile {
		if u.Authority != "" && u.Authority != "localhost" {
			return URI{}, uriError(s, fmt.Sprintf("a file path cannot be on another host (%s); file:///p has three slashes", u.Authority))
		}
		u.Authority = ""
	}
	if strings.ContainsAny(u.Authority, "@ \t\r\n?#") {
		return URI{}, uriError(s, fmt.Sprintf("%q is not a name service or host:port", u.Authority))
	}
	return u, nil
}

// cutScheme splits scheme and rest; rest begins with a slash. A single letter is a Windows drive, not a scheme.
func cutScheme(s string) (scheme, rest string, ok bool) {
	i := strings.IndexByte(s, ':')
	if i < 2 || i+1 >= len(s) || s[i+1] != '/' {
		return "", "", false
	}
	for j := range i {
		c := s[j] | 0x20
		if ('a' > c || c > 'z') && (j == 0 || !strings.ContainsRune("0123456789+-.", rune(s[j]))) {
			return "", "", false
		}
	}
	return strings.ToLower(s[:i]), s[i+1:], true
}

func uriError(s, why string) error {
	return &Error{Op: "parse", Path: fmt.Sprintf("%q", s), Kind: KindUsage, Err: errors.New(why),
		Hint: "write hdfs://nameservice/path, hdfs://host:port/path, file:///path or a plain path"}
}

// String gives a text that Parse reads back to the same value; for local files that is the plain path.
func (u URI) String() string {
	if u.Scheme == SchemeFile || u.Scheme == "" {
		if _, _, looksLikeScheme := cutScheme(u.Path); looksLikeScheme {
			return "./" + u.Path
		}
		return u.Path
	}
	return u.Scheme + "://" + u.Authority + u.Path
}

// Join appends elements to the path.
func (u URI) Join(elem ...string) URI {
	u.Path = path.Join(append([]string{u.Path}, elem...)...)
	return u
}

// Base gives the last element of the path, "/" for the root.
func (u URI) Base() string { return path.Base(u.Path) }

// Local tells whether the URI names something on this machine.
func (u URI) Local() bool { return u.Scheme == SchemeFile }
