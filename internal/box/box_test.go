package box

import (
	"bufio"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func kind(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

func TestOptionsAreCheckedBeforeAnythingStarts(t *testing.T) {
	dir := t.TempDir()
	for name, o := range map[string]Options{
		"no folder":        {},
		"a space":          {Dir: filepath.Join(dir, "a b")},
		"a comma":          {Dir: filepath.Join(dir, "a,b")},
		"unknown server":   {Dir: dir, Only: "yarn"},
		"datanodes":        {Dir: dir, Datanodes: -1},
		"many datanodes":   {Dir: dir, Datanodes: 1000},
		"executors":        {Dir: dir, Executors: -1},
		"heap":             {Dir: dir, Heap: "much"},
		"heap with a flag": {Dir: dir, Heap: "1g -version"},
		"two namenodes":    {Dir: dir, HA: true, Separate: true},
	} {
		if _, err := o.complete(); kind(err) != kindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("HADOOP_USER_NAME", "ann")
	o, err := Options{Dir: dir}.complete()
	if err != nil {
		t.Fatal(err)
	}
	if o.Datanodes != 1 || o.Heap != "1g" || o.User != "ann" || o.SparkUser != "ann" || !o.spark() || !o.hdfs() {
		t.Errorf("%+v", o)
	}
}

func TestAFolderWithOtherThingsIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := prepareDir(dir); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, dataDir, "old")
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := prepareDir(dir); err != nil {
		t.Errorf("the folder of a former box: %v", err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the former box left: %v", err)
	}
	thesis := filepath.Join(dir, "thesis.tex")
	if err := os.WriteFile(thesis, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := prepareDir(dir); kind(err) != kindUsage || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("a folder with a thesis: %v", err)
	}
	if _, err := os.Stat(thesis); err != nil {
		t.Errorf("the thesis: %v", err)
	}
}

func TestVersionsOfJava(t *testing.T) {
	if v := releaseVersion("IMPLEMENTOR=\"Debian\"\nJAVA_VERSION=\"17.0.15\"\nOS_NAME=\"Linux\"\n"); v != "17.0.15" {
		t.Errorf("%q", v)
	}
	for version, want := range map[string]int{"17.0.15": 17, "21": 21, "1.8.0_402": 1, "25-ea": 25, "": 0, "x": 0} {
		if got := majorVersion(version); got != want {
			t.Errorf("%q: %d", version, got)
		}
	}
}

// A line of a manifest has at most 72 bytes, and a continuation begins with a space (JAR File Specification).
func TestManifestLinesAreFolded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[a-z/.]([a-z/. ]{0,400}[a-z/.])?`).Draw(t, "value")
		text := attribute("Class-Path", value)
		unfolded := ""
		for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
			line := strings.TrimSuffix(s.Text(), "\r")
			if len(line) > 72 {
				t.Fatalf("%d bytes: %q", len(line), line)
			}
			if unfolded != "" {
				rest, ok := strings.CutPrefix(line, " ")
				if !ok {
					t.Fatalf("a second attribute: %q", line)
				}
				line = rest
			}
			unfolded += line
		}
		if unfolded != "Class-Path: "+value {
			t.Fatalf("%q", unfolded)
		}
	})
}

func TestAnswersOfTheHarness(t *testing.T) {
	replies := make(chan answer, 10)
	readAnswers(strings.NewReader("- namenode a b\n[0.1s][warning] noise\n- datanode c d\nok\nok\n- lost\nerr no such file\n- unfinished\n"), replies)
	var got []answer
	for a := range replies {
		got = append(got, a)
	}
	if len(got) != 3 {
		t.Fatalf("%+v", got)
	}
	if got[0].err != nil || !slices.Equal(got[0].lines, []string{"namenode a b", "datanode c d"}) {
		t.Errorf("%+v", got[0])
	}
	if got[1].err != nil || got[1].lines != nil {
		t.Errorf("%+v", got[1])
	}
	if got[2].err == nil || got[2].err.Error() != "no such file" {
		t.Errorf("%+v", got[2])
	}
}

func TestBlocksAreReadFromLines(t *testing.T) {
	blocks, err := parseBlocks([]string{"blk_1 0 512 127.0.0.1:1 127.0.0.1:2", "blk_2 512 7"})
	if err != nil || len(blocks) != 2 || blocks[1].Offset != 512 || blocks[1].Length != 7 || len(blocks[0].Replicas) != 2 {
		t.Errorf("%+v, %v", blocks, err)
	}
	for _, wrong := range []string{"", "blk_1 0", "blk_1 x 1", "blk_1 0 x"} {
		if _, err := parseBlocks([]string{wrong}); err == nil {
			t.Errorf("%q: no error", wrong)
		}
	}
}

func TestEnvIsSafeForAShell(t *testing.T) {
	b := Box{Spark: "sc://127.0.0.1:15002", Dir: "/it's; rm -rf"}
	want := []string{"export SPARK_REMOTE=sc://127.0.0.1:15002", `export DKPIPE_BOX='/it'\''s; rm -rf'`}
	if got := b.Env(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestConfigurationForClients(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "conf")
	if err := writeConf(dir, map[string]string{"fs.defaultFS": "hdfs://box", "dfs.nameservices": "box", "hadoop.x": "a<b&c"}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]property{
		"core-site.xml": {{"fs.defaultFS", "hdfs://box"}, {"hadoop.x", "a<b&c"}},
		"hdfs-site.xml": {{"dfs.nameservices", "box"}},
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			XMLName    xml.Name   `xml:"configuration"`
			Properties []property `xml:"property"`
		}
		if err := xml.Unmarshal(text, &got); err != nil || !slices.Equal(got.Properties, want) {
			t.Errorf("%s: %+v, %v", file, got.Properties, err)
		}
	}
}

func TestStatusOfAFolderWithoutABox(t *testing.T) {
	dir := t.TempDir()
	if _, err := Status(dir); kind(err) != kindUsage {
		t.Errorf("Status: %v", err)
	}
	if err := Down(t.Context(), dir); kind(err) != kindUsage {
		t.Errorf("Down: %v", err)
	}
	if err := Down(t.Context(), filepath.Join(dir, "none")); kind(err) != kindUsage {
		t.Errorf("Down of nothing: %v", err)
	}
	if _, err := Control(t.Context(), dir, "blocks /a"); kind(err) != kindUnreachable {
		t.Errorf("Control: %v", err)
	}
}

func FuzzFieldsOfAResponse(f *testing.F) {
	f.Add(bytesField(text(nil, 1, "session"), 2, []byte{1 << 3, 7}))
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{0x0b, 0x0c})
	f.Fuzz(func(t *testing.T, message []byte) {
		content, found := field(message, 2)
		if found && len(content) > len(message) {
			t.Errorf("%d bytes within %d", len(content), len(message))
		}
		varint(message, 1)
	})
}

func TestFieldsAreFoundBehindOthers(t *testing.T) {
	batch := []byte{1 << 3, 7, 2<<3 | 2, 1, 'x'}
	content, found := field(bytesField(text(nil, 1, "session"), 2, batch), 2)
	if !found || varint(content, 1) != 7 {
		t.Errorf("%v %v", content, found)
	}
	if _, found := field(text(nil, 1, "session"), 2); found {
		t.Error("found what is not there")
	}
}
