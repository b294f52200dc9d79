package spec

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// lines repeats a line that depends on its number.
func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// stairs nests names, each line deeper than the one above.
func stairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// TestHostileFilesAreCheap reads files that are made to cost much: within the size limit, but nested, repeated or
// long in the ways that parsers are slow at. Each takes well under a second; the limit only tells that from minutes.
func TestHostileFilesAreCheap(t *testing.T) {
	rep := strings.Repeat
	const size = MaxBytes - 64
	for name, text := range map[string]string{
		"too large":             rep("# x\n", size),
		"flow lists":            rep("[", maxLine-1),
		"flow lists in lines":   rep(rep("[", 99)+"\n", size/100),
		"flow maps":             rep("{a: ", maxLine/4-1),
		"block lists":           rep("- ", maxLine/2-1),
		"stairs":                stairs(1300),
		"stairs in a list":      "[" + stairs(1300) + "]",
		"names":                 lines(9_900, "k%d: 1\n"),
		"names without values":  lines(9_900, "k%d:\n"),
		"equal names":           rep("a:\n", size/3),
		"long name":             rep("x", maxLine-9) + ":\n" + rep(" - 1\n", 20_000),
		"elements":              "a: [" + rep("1,\n", size/3),
		"elements without text": "a: {" + rep("a,\n", 12_000) + "}",
		"empty elements":        rep("-\n", 49_000),
		"merge signs":           rep(" "+rep("<", maxRepeat)+"\n", size/(maxRepeat+2)),
		"blank lines":           "a: |\n x" + rep("\n", size),
		"some blank lines":      "a: |+\n x\n" + rep(rep("\n", 90)+" x\n", size/93),
		"tabs":                  "a: \"" + rep(rep("\t", 60)+rep("x", 900)+"\n", 1_000) + "\"",
		"comments":              rep("#\n", size/2),
		"quotes":                rep("''\n", size/3),
		"open quote":            "a: '" + rep("x\n", size/3),
		"tags":                  rep("! \n", size/3),
		"aliases":               rep("- *a\n", size/5),
		"anchors":               "a: &a [1]\nb: [" + rep("*a, ", 1_000) + "]\n",
		"documents":             rep("---\n", size/4),
		"ends":                  rep("...\n", size/4),
		"folded":                "a: >\n" + rep(" x\n", size/3),
		"plain lines":           "a: x\n" + rep(" x\n", size/3),
		"dashes in text":        "a: x\n" + rep(" - x\n", size/5),
		"long variable":         "params: {a: " + rep("x", 60_000) + "}\nname: \"" + rep("{{a}}", 10_000) + "\"\n",
		"many variables":        "params: {a: " + rep("x", 60_000) + "}\ntransform:\n" + rep("- \"{{a}} {{a}}\"\n", 10_000),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if _, err := Read("job.yaml", []byte(text), Options{}); err == nil {
				t.Error("no error")
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// FuzzRead promises that no file and no flag makes the decoder panic, that it gives either a spec or an *Error, and
// that the error has lines that lead somewhere.
func FuzzRead(f *testing.F) {
	for _, c := range goldenCases(f) {
		var set, param string
		if len(c.opt.Set) > 0 {
			set = c.opt.Set[0]
		}
		for name, value := range c.opt.Params {
			param = name + "=" + value
		}
		f.Add(c.text, set, param, c.opt.Slot)
	}
	f.Add("a: {{{x}}}\n", "a.0.b={{x}}", "=", "2026-11-22")
	f.Fuzz(func(t *testing.T, text, set, param, slot string) {
		opt := Options{Slot: slot, Need: ForTrain}
		if set != "" {
			opt.Set = []string{set}
		}
		if name, value, ok := strings.Cut(param, "="); ok {
			opt.Params = map[string]string{name: value}
		}
		s, err := Read("job.yaml", []byte(text), opt)
		if (s == nil) == (err == nil) {
			t.Fatalf("spec %v, error %v", s != nil, err)
		}
		if err != nil {
			e, ok := err.(*Error)
			if !ok || len(e.Problems) == 0 {
				t.Fatalf("a %T without problems", err)
			}
			for _, p := range e.Problems {
				if p.Text == "" || (p.Pos.File == "" && p.Pos.Line == 0) || strings.Contains(p.Text, "gave up") {
					t.Errorf("problem %+v", p)
				}
			}
			return
		}
		for _, it := range append(s.Transform, s.Train.Optimizer, s.Train.Trainer) {
			var into struct {
				Input  []string       `yaml:"input" spec:"single"`
				Output string         `yaml:"output"`
				Rest   map[string]any `yaml:"rest"`
			}
			_ = it.Decode(&into)
		}
		again, err := Read("job.yaml", []byte(text), opt)
		if err != nil || again.SHA256 != s.SHA256 {
			t.Errorf("the second reading differs: %v", err)
		}
	})
}
