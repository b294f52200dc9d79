package hdfsio_test

import (
	"errors"
	"strings"
	"testing"

	"dkpipe/hdfsio"

	"pgregory.net/rapid"
)

func TestParseReadsTheFormsThatUsersWrite(t *testing.T) {
	for _, c := range []struct{ in, scheme, authority, path, text string }{
		{"hdfs://ns/p", "hdfs", "ns", "/p", "hdfs://ns/p"},
		{"hdfs://host:8020/a/b/", "hdfs", "host:8020", "/a/b", "hdfs://host:8020/a/b"},
		{"hdfs:///p", "hdfs", "", "/p", "hdfs:///p"},
		{"hdfs:/p", "hdfs", "", "/p", "hdfs:///p"},
		{"HDFS://ns", "hdfs", "ns", "/", "hdfs://ns/"},
		{"hdfs://[::1]:8020/p", "hdfs", "[::1]:8020", "/p", "hdfs://[::1]:8020/p"},
		{"hdfs://ns/a b/50%20?x#y", "hdfs", "ns", "/a b/50%20?x#y", "hdfs://ns/a b/50%20?x#y"},
		{"hdfs://ns/../../etc", "hdfs", "ns", "/etc", "hdfs://ns/etc"},
		{"file:///p/q", "file", "", "/p/q", "/p/q"},
		{"file:/p", "file", "", "/p", "/p"},
		{"file://localhost/p", "file", "", "/p", "/p"},
		{"/p//q/./r", "file", "", "/p/q/r", "/p/q/r"},
		{"out/model", "file", "", "out/model", "out/model"},
		{"./out", "file", "", "out", "out"},
		{"../x", "file", "", "../x", "../x"},
		{".", "file", "", ".", "."},
		{"run:3.csv", "file", "", "run:3.csv", "run:3.csv"},
		{"C:/data", "file", "", "C:/data", "C:/data"},
		{"./hdfs:/odd", "file", "", "hdfs:/odd", "./hdfs:/odd"},
		{"s3a://bucket/key", "s3a", "bucket", "/key", "s3a://bucket/key"},
	} {
		u, err := hdfsio.Parse(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if got := (hdfsio.URI{Scheme: c.scheme, Authority: c.authority, Path: c.path}); u != got {
			t.Errorf("%s parsed to %+v, want %+v", c.in, u, got)
		}
		if u.String() != c.text {
			t.Errorf("%s prints as %s, want %s", c.in, u, c.text)
		}
	}
}

func TestParseRefusesWithAReason(t *testing.T) {
	for in, reason := range map[string]string{
		"":                        "empty",
		"a\x00b":                  "not text",
		"\xff":                    "not text",
		"file://server/share":     "three slashes",
		"hdfs://alice@namenode/p": "not a name service",
		"hdfs://a b/p":            "not a name service",
	} {
		_, err := hdfsio.Parse(in)
		if err == nil || !strings.Contains(err.Error(), reason) || hdfsio.KindOf(err) != hdfsio.KindUsage {
			t.Errorf("%q: %v", in, err)
		}
		if e, ok := errors.AsType[*hdfsio.Error](err); !ok || e.ErrorHint() == "" {
			t.Errorf("%q: no hint", in)
		}
	}
}

func TestStringIsReadBackByParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`(hdfs|file|s3a)?:?/{0,3}[a-z:.%? ]{0,8}(/[a-z:.*]{0,4}){0,4}`),
		).Draw(t, "in")
		u, err := hdfsio.Parse(in)
		if err != nil {
			return
		}
		again, err := hdfsio.Parse(u.String())
		if err != nil || again != u {
			t.Fatalf("%q -> %+v -> %q -> %+v, %v", in, u, u.String(), again, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"hdfs://ns/p", "file:///p", "a/b", "hdfs:", "x://", ":/", "a:/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := hdfsio.Parse(s)
		if err != nil {
			return
		}
		if again, err := hdfsio.Parse(u.String()); err != nil || again != u {
			t.Fatalf("%q -> %q -> %+v, %v", s, u.String(), again, err)
		}
		if u.Scheme != hdfsio.SchemeFile && !strings.HasPrefix(u.Path, "/") {
			t.Fatalf("%q has the relative path %q on %s", s, u.Path, u.Scheme)
		}
	})
}

func TestJoinAndBaseWorkOnThePathOnly(t *testing.T) {
	u, err := hdfsio.Parse("hdfs://ns/data")
	if err != nil {
		t.Fatal(err)
	}
	j := u.Join("v000001", "train/part-00000.parquet")
	if j.String() != "hdfs://ns/data/v000001/train/part-00000.parquet" || j.Base() != "part-00000.parquet" || u.String() != "hdfs://ns/data" {
		t.Fatalf("joined %s, base %s, origin %s", j, j.Base(), u)
	}
}
