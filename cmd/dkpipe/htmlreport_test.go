package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// reported trains with --report and gives the page.
func reported(t *testing.T, code int, more ...string) (dir string, text []byte, failed *failure) {
	t.Helper()
	dir = quickstart(t, "train: 0.8, test: 0.2", "train: 0.7, validation: 0.1, test: 0.2", "name: digits", `name: "<digits> & 'more'"`)
	p := start(t, dir, nil, append([]string{"run", "-f", "job.yaml", "--json", "--report", "run.html"}, more...)...)
	if got := p.wait(t); got != code {
		t.Fatalf("exit code %d: %s%s", got, &p.stdout, &p.stderr)
	}
	var r struct{ Error *failure }
	if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "run.html"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, text, r.Error
}

// TestTheReportNeedsNothingElse: well-formed, no script, no other host, and everything is there.
func TestTheReportNeedsNothingElse(t *testing.T) {
	_, text, _ := reported(t, 0, "--set", "train.metrics=[accuracy,confusion_matrix],train.epochs=200") // curves over time need a moment
	if found := regexp.MustCompile(`(?i)https?://|<script|<link|<iframe|src=|@import|url\(`).Find(text); found != nil {
		t.Errorf("the page holds %s", found)
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	count := map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := token.(xml.StartElement); ok {
			count[s.Name.Local]++
			for _, a := range s.Attr {
				if a.Name.Local == "d" && strings.Contains(a.Value, "NaN") || a.Value == "" && a.Name.Local == "width" {
					t.Errorf("%s %s=%q", s.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
	if count["svg"] < 5 || count["table"] != 3 || count["title"] == 0 {
		t.Errorf("the page has %v, and of headings %q", count, regexp.MustCompile(`<h2>[^<]*`).FindAll(text, -1))
	}
	for _, want := range []string{"&lt;digits&gt; &amp; &#39;more&#39;", "samples/s", "Loss", "Staleness", "Where time went", "worker 1", "one_hot", "kernels", "test confusion_matrix"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("the page does not hold %s", want)
		}
	}
	if bytes.Contains(text, []byte("<digits>")) {
		t.Error("a name was taken for an element")
	}
}

// TestTheReportOfAFailedRunSaysWhy: a page is most wanted when something went wrong.
func TestTheReportOfAFailedRunSaysWhy(t *testing.T) {
	_, text, failed := reported(t, 6, "--set", "gate.at_least=0.9999")
	if failed == nil || !bytes.Contains(text, []byte("ended with an error: gate")) || !bytes.Contains(text, []byte("the gate asks for at least 0.9999")) {
		t.Errorf("%+v\n%.2000s", failed, text)
	}
}

func TestAReportInNoFolderIsRefusedBeforeTraining(t *testing.T) {
	dir := quickstart(t)
	if r := run(t, dir, 2, "run", "-f", "job.yaml", "--report", "nowhere/run.html"); r.Error == nil || !strings.Contains(r.Error.Message, "nowhere") {
		t.Errorf("%+v", r.Error)
	}
	if l := latest(t, filepath.Join(dir, "out/model")); l != "" {
		t.Errorf("a model was published, %s", l)
	}
}

// browser finds a Chromium, or skips; DKPIPE_REQUIRE=browser makes its absence a failure.
func browser(t *testing.T) string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if at, err := exec.LookPath(name); err == nil {
			return at
		}
	}
	if slices.Contains(strings.Split(os.Getenv("DKPIPE_REQUIRE"), ","), "browser") {
		t.Fatal("DKPIPE_REQUIRE asks for a browser, and there is no chromium")
	}
	t.Skip("there is no chromium")
	return ""
}

// TestTheReportInABrowser looks at the page as a person would: nothing is wider than the window of a phone, and the plots
// have their colours, in the light and in the dark.
func TestTheReportInABrowser(t *testing.T) {
	chromium := browser(t)
	dir, text, _ := reported(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	view := func(args ...string) []byte {
		args = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(), "--virtual-time-budget=2000"}, args...)
		cmd := exec.CommandContext(ctx, chromium, args...)
		cmd.Dir = dir
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out.Bytes()
	}
	for name, c := range map[string]struct {
		flag           string
		ground, series color.RGBA
	}{
		"light": {"--blink-settings=preferredColorScheme=1", color.RGBA{0xf6, 0xf7, 0xf9, 255}, color.RGBA{0x25, 0x63, 0xc9, 255}},
		"dark":  {"--blink-settings=preferredColorScheme=0", color.RGBA{0x10, 0x14, 0x1b, 255}, color.RGBA{0x6e, 0xa8, 0xfe, 255}},
	} {
		view(c.flag, "--window-size=1200,2400", "--screenshot="+name+".png", "run.html")
		f, err := os.Open(filepath.Join(dir, name+".png"))
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := color.RGBAModel.Convert(picture.At(2, 2)); got != c.ground {
			t.Errorf("%s: the page is %v", name, got)
		}
		if n := countColor(picture, c.series); n < 1000 {
			t.Errorf("%s: %d points have the colour of the first series", name, n)
		}
	}
	// The page itself has no script, so a probe is added to a copy.
	probe := strings.Replace(string(text), `content="default-src 'none'; style-src 'unsafe-inline'"`, `content=""`, 1)
	probe = strings.Replace(probe, "</body>", `<script>document.title = JSON.stringify({page: document.documentElement.scrollWidth, window: innerWidth,
		empty: [...document.querySelectorAll("svg path")].filter(p => p.getTotalLength() == 0).length})</script></body>`, 1)
	if err := os.WriteFile(filepath.Join(dir, "probe.html"), []byte(probe), 0o644); err != nil {
		t.Fatal(err)
	}
	title := regexp.MustCompile(`<title>(\{.*?\})</title>`).FindSubmatch(view("--window-size=500,900", "--dump-dom", "probe.html"))
	if title == nil {
		t.Fatal("the probe did not run")
	}
	var got struct{ Page, Window, Empty int }
	if err := json.Unmarshal(title[1], &got); err != nil {
		t.Fatal(err)
	}
	if got.Page > got.Window || got.Empty > 0 {
		t.Errorf("%+v", got)
	}
}

func countColor(p image.Image, c color.RGBA) int {
	n := 0
	for y := p.Bounds().Min.Y; y < p.Bounds().Max.Y; y++ {
		for x := p.Bounds().Min.X; x < p.Bounds().Max.X; x++ {
			if color.RGBAModel.Convert(p.At(x, y)) == c {
				n++
			}
		}
	}
	return n
}
