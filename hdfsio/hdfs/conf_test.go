package hdfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dkpipe/hdfsio"
)

// siteXML writes a configuration; a value that begins with ! is final.
func siteXML(pairs ...string) string {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\"?>\n<?xml-stylesheet type=\"text/xsl\" href=\"configuration.xsl\"?>\n<!-- site -->\n<configuration>\n")
	for i := 0; i < len(pairs); i += 2 {
		v, final := strings.CutPrefix(pairs[i+1], "!")
		fmt.Fprintf(&b, "<property>\n <name>%s</name>\n <value>%s</value>\n <description>text</description>", pairs[i], v)
		if final {
			b.WriteString("<final>true</final>")
		}
		b.WriteString("</property>\n")
	}
	b.WriteString("</configuration>\n")
	return b.String()
}

// writeConf makes a folder with files and gives an environment that names it.
func writeConf(t *testing.T, files map[string]string) (dir string, env func(string) string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, vars("HADOOP_CONF_DIR", dir)
}

func vars(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func parse(t *testing.T, env func(string) string, pairs ...string) *Conf {
	t.Helper()
	c, err := Parse(strings.NewReader(siteXML(pairs...)), env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var twoServices = []string{
	"fs.defaultFS", "hdfs://prod",
	"dfs.nameservices", "prod, dr,plain",
	"dfs.ha.namenodes.prod", "nn1,nn2",
	"dfs.namenode.rpc-address.prod.nn1", "a.example:9000",
	"dfs.namenode.rpc-address.prod.nn2", "b.example",
	"dfs.ha.namenodes.dr", "x",
	"dfs.namenode.rpc-address.dr.x", "[::1]:8021",
	"dfs.namenode.rpc-address.plain", "p.example:1",
}

func TestNameServicesAreKeptApart(t *testing.T) {
	c := parse(t, nil, twoServices...)
	for authority, want := range map[string][]string{
		"":                  {"a.example:9000", "b.example:8020"},
		"prod":              {"a.example:9000", "b.example:8020"},
		"dr":                {"[::1]:8021"},
		"plain":             {"p.example:1"},
		"other.example":     {"other.example:8020"},
		"other.example:900": {"other.example:900"},
		"[::2]:900":         {"[::2]:900"},
		"[::2]":             {"[::2]:8020"},
	} {
		o, err := c.Resolve(authority)
		if err != nil || !slices.Equal(o.Namenodes, want) {
			t.Errorf("%q: %q, %v; want %q", authority, o.Namenodes, err, want)
		}
	}
	for _, authority := range []string{"a:b", "a:0", "a:70000", ":1", "a:1:2", "a/b"} {
		if o, err := c.Resolve(authority); hdfsio.KindOf(err) != hdfsio.KindUsage {
			t.Errorf("%q: %q, %v", authority, o.Namenodes, err)
		}
	}
}

func TestTheDefaultFileSystemIsTakenOrAskedFor(t *testing.T) {
	for value, want := range map[string]string{
		"hdfs://h:9": "h:9", "hdfs://h": "h:8020", "hdfs://h/": "h:8020", "h:9": "h:9",
	} {
		o, err := parse(t, nil, "fs.default.name", value).Resolve("") // the old name
		if err != nil || len(o.Namenodes) != 1 || o.Namenodes[0] != want {
			t.Errorf("%s: %q, %v", value, o.Namenodes, err)
		}
	}
	_, err := new(Conf).Resolve("")
	var e *hdfsio.Error
	if !errors.As(err, &e) || e.Kind != hdfsio.KindUsage || !strings.Contains(e.Hint, "HADOOP_CONF_DIR") {
		t.Errorf("no configuration: %v", err)
	}
	for _, value := range []string{"viewfs://x/", "file:///", "s3a://b/"} {
		if _, err := parse(t, nil, "fs.defaultFS", value).Resolve(""); hdfsio.KindOf(err) != hdfsio.KindUnsupported {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestWhatIsMissingOrNotServedIsNamed(t *testing.T) {
	for _, c := range []struct {
		authority string
		kind      hdfsio.Kind
		names     string
		pairs     []string
	}{
		{"ns", hdfsio.KindUsage, "dfs.namenode.rpc-address.ns.b", []string{"dfs.ha.namenodes.ns", "a,b", "dfs.namenode.rpc-address.ns.a", "h:1"}},
		{"ns", hdfsio.KindUsage, "dfs.namenode.rpc-address.ns", []string{"dfs.nameservices", "ns"}},
		{"ns", hdfsio.KindUsage, "dfs.namenode.rpc-address.ns", []string{"dfs.nameservices", "ns", "dfs.namenode.rpc-address.ns", "${nobody.knows}:1"}},
		{"h", hdfsio.KindUnsupported, "Kerberos", []string{"hadoop.security.authentication", "Kerberos"}},
		{"h", hdfsio.KindUnsupported, "dfs.encrypt.data.transfer", []string{"dfs.encrypt.data.transfer", "true"}},
		{"h", hdfsio.KindUsage, "dfs.blocksize", []string{"dfs.block.size", "big"}},
		{"h", hdfsio.KindUsage, "dfs.blocksize", []string{"dfs.blocksize", "9999999999t"}},
		{"h", hdfsio.KindUsage, "dfs.replication", []string{"dfs.replication", "-1"}},
		{"h", hdfsio.KindUsage, "fs.permissions.umask-mode", []string{"fs.permissions.umask-mode", "u=rwx,g=s"}},
		{"h", hdfsio.KindUsage, "fs.permissions.umask-mode", []string{"fs.permissions.umask-mode", "x=rwx"}},
		{"h", hdfsio.KindUsage, "fs.permissions.umask-mode", []string{"fs.permissions.umask-mode", "029"}},
		{"h", hdfsio.KindUsage, "dfs.client.socket-timeout", []string{"dfs.client.socket-timeout", "soon"}},
	} {
		_, err := parse(t, nil, c.pairs...).Resolve(c.authority)
		var e *hdfsio.Error
		if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.names) || e.Hint == "" {
			t.Errorf("%v: %v", c.pairs, err)
		}
	}
}

func TestSettingsOfTheClientAreTakenOver(t *testing.T) {
	o, err := parse(t, vars("HADOOP_USER_NAME", "ann"),
		"dfs.blocksize", "64m", "dfs.replication", "2", "fs.permissions.umask-mode", "027", "dfs.client.use.datanode.hostname", "TRUE",
		"dfs.client.socket-timeout", "1500", "hadoop.security.authentication", "simple").Resolve("h")
	if err != nil {
		t.Fatal(err)
	}
	if o.BlockSize != 64<<20 || o.Replication != 2 || *o.Umask != 0o027 || !o.UseDatanodeHostname || o.DataTimeout != 1500*time.Millisecond || o.User != "ann" {
		t.Errorf("%+v", o)
	}
}

// TestUmaskIsReadAsHadoopDoes: octal is what is taken away, letters are what is allowed.
func TestUmaskIsReadAsHadoopDoes(t *testing.T) {
	for text, want := range map[string]uint32{
		"022": 0o022, "77": 0o077, "u=rwx,g=rx,o=": 0o027, "u=rwx,g=rwx,o=rx": 0o002, "u=rwx, g=, o=": 0o077, "a=rx,u+w": 0o022, "=r": 0o333, "a=rwx,go-w": 0o022,
	} {
		o, err := parse(t, nil, "fs.permissions.umask-mode", text).Resolve("h")
		if err != nil || *o.Umask != want {
			t.Errorf("%s: %+v, %v; want %03o", text, o.Umask, err, want)
		}
	}
}

func TestVariablesAreReplacedAsHadoopDoes(t *testing.T) {
	c := parse(t, vars("HOST", "h1", "EMPTY", "", "USER", "ann"),
		"port", "9000", "which", "po", "addr", "${env.HOST}:${port}", "nested", "${${which}rt}", "twice", "${addr} ${addr}",
		"unknown", "a${x.y}b${port}", "default", "${env.NONE-d}${env.EMPTY:-e}${env.HOST:-no}", "user", "/tmp/${user.name}",
		"loop", "${loop}", "open", "${port", "empty", "${}", "grow", "${grow}${grow}")
	for name, want := range map[string]string{
		"addr": "h1:9000", "nested": "9000", "twice": "h1:9000 h1:9000", "unknown": "a${x.y}b9000", "default": "deh1", "user": "/tmp/ann",
		"open": "${port", "empty": "${}", "absent": "",
	} {
		if got, err := c.Get(name); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"loop", "grow"} {
		if got, err := c.Get(name); hdfsio.KindOf(err) != hdfsio.KindUsage {
			t.Errorf("%s = %q, %v", name, got, err)
		}
	}
}

func TestLaterFilesWinUnlessAnEarlierSaidFinal(t *testing.T) {
	dir, env := writeConf(t, map[string]string{
		"core-site.xml": siteXML("a", "core", "b", "!core", "c", "core"),
		"hdfs-site.xml": siteXML("a", "site", "b", "site"),
	})
	c, err := Load(env)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "site", "b": "core", "c": "core"} {
		if got, _ := c.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if c.Dir != dir {
		t.Errorf("read from %s", c.Dir)
	}
}

func TestTheFolderIsFoundAsHadoopFindsIt(t *testing.T) {
	home := t.TempDir()
	if c, err := Load(vars("HADOOP_HOME", home)); err != nil || c.Dir != "" {
		t.Errorf("a home without a configuration: %v", err)
	}
	etc := filepath.Join(home, "etc", "hadoop")
	if err := os.MkdirAll(etc, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "core-site.xml"), []byte(siteXML("a", "b")), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(vars("HADOOP_HOME", home)); err != nil || c.Dir != etc {
		t.Errorf("a home: %v", err)
	}
	if c, err := Load(vars()); err != nil || len(c.Names()) != 0 {
		t.Errorf("nothing set: %v", err)
	}
	if _, err := Load(vars("HADOOP_CONF_DIR", t.TempDir(), "HADOOP_HOME", home)); hdfsio.KindOf(err) != hdfsio.KindUsage {
		t.Errorf("an empty HADOOP_CONF_DIR: %v", err)
	}
}

func TestIncludedFilesAreReadInPlace(t *testing.T) {
	include := func(href, more string) string {
		return `<configuration xmlns:xi="http://www.w3.org/2001/XInclude"><property><name>a</name><value>1</value></property>` +
			`<xi:include href="` + href + `">` + more + `</xi:include></configuration>`
	}
	dir, env := writeConf(t, map[string]string{"core-site.xml": include("more.xml", ""), "more.xml": siteXML("a", "2", "b", "3")})
	c, err := Load(env)
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := c.Get("a"); a != "2" {
		t.Errorf("a = %q", a)
	}
	for what, text := range map[string]string{
		"absent": include("none.xml", ""), "itself": include("core-site.xml", ""), "network": include("http://example.org/x.xml", ""), "empty": include("", ""),
	} {
		if err := os.WriteFile(filepath.Join(dir, "core-site.xml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(env); hdfsio.KindOf(err) != hdfsio.KindUsage {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "core-site.xml"), []byte(include("none.xml", "<xi:fallback/>")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(env); err != nil {
		t.Errorf("absent with a fallback: %v", err)
	}
}

func TestABrokenFileIsNamedWithItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"<configuration><property><name>a</name>": "EOF",
		"<html></html>": "line 1",
		"<configuration>\n<property><value>a</value></property></configuration>":     "line 2",
		"<configuration>&boom;</configuration>":                                      "boom",
		"<?xml version=\"1.0\" encoding=\"utf-16\"?><configuration></configuration>": "utf-16",
	} {
		dir, env := writeConf(t, map[string]string{"hdfs-site.xml": text})
		_, err := Load(env)
		if hdfsio.KindOf(err) != hdfsio.KindUsage || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), filepath.Join(dir, "hdfs-site.xml")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzConf(f *testing.F) {
	f.Add([]byte(siteXML(twoServices...)), "prod")
	f.Add([]byte(siteXML("fs.defaultFS", "hdfs://${a}", "a", "${env.X:-${b}}", "b", "h:1")), "")
	f.Add([]byte(`<configuration><configuration><property name="a" value="b"/></configuration><x><y/></x></configuration>`), "h:1")
	f.Fuzz(func(t *testing.T, text []byte, authority string) {
		c, err := Parse(bytes.NewReader(text), vars("X", "${b}"))
		if err != nil {
			if hdfsio.KindOf(err) != hdfsio.KindUsage {
				t.Fatalf("%v of kind %s", err, hdfsio.KindOf(err))
			}
			return
		}
		for _, name := range c.Names() {
			if v, err := c.Get(name); len(v) > maxExpanded && len(v) > len(text) || err != nil && v != "" {
				t.Fatalf("%s has %d bytes", name, len(v))
			}
		}
		o, err := c.Resolve(authority)
		if err == nil && len(o.Namenodes) == 0 {
			t.Fatal("no NameNode and no error")
		}
		if err == nil {
			if _, err := o.complete(); err != nil {
				t.Fatalf("what Resolve gave is refused: %v", err)
			}
		} else if hdfsio.KindOf(err) == hdfsio.KindInternal {
			t.Fatalf("%v without a kind", err)
		}
	})
}
