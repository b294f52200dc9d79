package box

import (
	"strings"
	"testing"
)

func TestReleasesHaveRecipes(t *testing.T) {
	for version, want := range map[string]release{
		"":       {"4.0.1", "2.13", "3.4.1"},
		"3.5.7":  {"3.5.7", "2.12", "3.3.4"},
		"4.1.10": {"4.1.10", "2.13", "3.4.2"},
	} {
		if r, err := releaseOf(version); err != nil || r != want {
			t.Errorf("Spark %q: %+v, %v; want %+v", version, r, err, want)
		}
	}
	for _, version := range []string{"3.4.1", "4.0", "4.0.", "4.0.1-SNAPSHOT", "5.0.0", "../4.0.1", "4.0.1 -X"} {
		if r, err := releaseOf(version); err == nil {
			t.Errorf("Spark %q is taken for %+v", version, r)
		}
	}
}

// TestThePomIsThatOfTheDefault: whoever looks into the file, or runs it by hand, sees what a box runs.
func TestThePomIsThatOfTheDefault(t *testing.T) {
	pom, err := harness.ReadFile("harness/pom.xml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := releaseOf("")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.properties() {
		name, value, _ := strings.Cut(strings.TrimPrefix(p, "-D"), "=")
		if line := "<" + name + ">" + value + "</" + name + ">"; !strings.Contains(string(pom), line) {
			t.Errorf("pom.xml lacks %s", line)
		}
	}
}
