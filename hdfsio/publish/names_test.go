package publish

import (
	"encoding/json"
	"strings"
	"testing"

	"dkpipe/hdfsio"

	"pgregory.net/rapid"
)

func TestVersionNamesAreReadBackAndNothingElseIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := Version(rapid.IntRange(1, 1<<31-1).Draw(t, "v"))
		if got, err := ParseVersion(v.String()); err != nil || got != v {
			t.Fatalf("%s read as %d, %v", v, got, err)
		}
	})
	for _, bad := range []string{"", "v", "v0", "v000000", "v1", "v0000001", "v00000x", "V000001", "v000001/", "../v000001", "v000001\n", "v-00001", "v+00001", "/v000001", "v99999999999999999999"} {
		if v, err := ParseVersion(bad); err == nil || hdfsio.KindOf(err) != hdfsio.KindUsage {
			t.Errorf("%q read as %d, %v", bad, v, err)
		}
	}
	data, err := json.Marshal(Slot{Version: 4})
	if err != nil || !strings.Contains(string(data), `"version":"v000004"`) {
		t.Errorf("%s, %v", data, err)
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("v000001")
	f.Add("v1000000")
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseVersion(s); err == nil && (v.String() != s || strings.ContainsAny(s, "/.\n")) {
			t.Fatalf("%q read as %s", s, v)
		}
	})
}

func TestSlotNamesAreReversibleFileNames(t *testing.T) {
	if got, err := slotFile("2026-11-22T03"); err != nil || got != "2026-11-22T03.json" {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := slotFile("2026-11-22T03:00"); err != nil || got != "2026-11-22T03%3A00.json" {
		t.Errorf("%s, %v", got, err)
	}
	seen := make(map[string]string)
	rapid.Check(t, func(t *rapid.T) {
		slot := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9:%._ *ü-]{1,40}`)).Draw(t, "slot")
		file, err := slotFile(slot)
		if err != nil {
			if hdfsio.KindOf(err) != hdfsio.KindUsage {
				t.Fatal(err)
			}
			return
		}
		if back, ok := slotOf(file); !ok || back != slot {
			t.Fatalf("%q -> %s -> %q", slot, file, back)
		}
		if other, ok := seen[file]; ok && other != slot {
			t.Fatalf("%q and %q share %s", slot, other, file)
		}
		seen[file] = slot
		if strings.ContainsAny(file, "/:\\\x00\n") || len(file) > 220 || hdfsio.Hidden(file) {
			t.Fatalf("%q is not a good file name", file)
		}
	})
}

func TestSlotNamesThatAreRefused(t *testing.T) {
	for _, bad := range []string{"", "a/b", "..", "../x", ".", "a\nb", "a\x00", "a\x7f", "\xff", "a\u202eb", strings.Repeat("x", 201), strings.Repeat(":", 100)} {
		if file, err := slotFile(bad); err == nil || hdfsio.KindOf(err) != hdfsio.KindUsage {
			t.Errorf("%q gave %s, %v", bad, file, err)
		}
	}
	if _, err := slotFile(strings.Repeat("x", 200)); err != nil {
		t.Error(err)
	}
}

func FuzzSlotFile(f *testing.F) {
	f.Add("2026-11-22T03:00")
	f.Add("%2e")
	f.Add("a%3Ab")
	f.Fuzz(func(t *testing.T, slot string) {
		file, err := slotFile(slot)
		if err != nil {
			return
		}
		if back, ok := slotOf(file); !ok || back != slot {
			t.Fatalf("%q -> %s -> %q", slot, file, back)
		}
	})
}
