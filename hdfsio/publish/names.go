package publish

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"dkpipe/hdfsio"
)

// The names in a root.
const (
	latestName  = "LATEST"
	lockName    = "_lock"
	epochsName  = "_epochs"
	slotsName   = "_slots"
	pinsName    = "_pins"
	historyName = "_history.jsonl"
	leftName    = "_left.json"
	markerName  = "_version.json"
	stagePrefix = ".stage-"
	trashPrefix = ".trash-"
	tempPrefix  = ".tmp-"
	nowPrefix   = ".now-"

	removingPrefix = "removing-" // in _pins: a version that the holder of the lock is about to remove
)

// Version is the number of a version, from 1. Zero is no version.
type Version int

// String gives the name of the version's folder, for example v000004.
func (v Version) String() string { return fmt.Sprintf("v%06d", int(v)) }

// MarshalText gives the name, so JSON holds names.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a name.
func (v *Version) UnmarshalText(b []byte) error {
	n, err := ParseVersion(string(b))
	*v = n
	return err
}

// ParseVersion reads a name as String writes it, nothing else; in particular no path. The error is of kind usage.
func ParseVersion(name string) (Version, error) {
	digits, ok := strings.CutPrefix(name, "v")
	n, err := strconv.ParseUint(digits, 10, 31)
	if v := Version(n); ok && err == nil && n > 0 && v.String() == name {
		return v, nil
	}
	return 0, &hdfsio.Error{Op: "read version", Path: strconv.Quote(name), Kind: hdfsio.KindUsage,
		Err: errors.New("not the name of a version"), Hint: "names look like v000004"}
}

// newID gives a random identity in the usual form of a UUID (version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// epochFile names the claim of an epoch; fixed width keeps a listing in order.
func epochFile(epoch uint64) string { return fmt.Sprintf("%09d", epoch) }

// parseEpoch reads what epochFile wrote.
func parseEpoch(name string) (uint64, bool) {
	n, err := strconv.ParseUint(name, 10, 63)
	return n, err == nil && n > 0 && epochFile(n) == name
}

// Limits of slot names in bytes. A file name holds 255, and ".json" and the name of a temporary file need some.
const (
	maxSlot     = 200
	maxSlotFile = 200
)

// slotFile gives the file name of a slot. Characters that some store refuses in names (a colon on HDFS) are
// percent-encoded, so the name can be read back and no two slots share a file.
func slotFile(slot string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", &hdfsio.Error{Op: "use slot", Path: strconv.Quote(slot), Kind: hdfsio.KindUsage, Err: errors.New(why),
			Hint: "name the slot like 2026-11-22T03: letters, digits and single dots, dashes or colons"}
	}
	switch {
	case slot == "":
		return refuse("the name of the slot is empty")
	case len(slot) > maxSlot:
		return refuse(fmt.Sprintf("the name of the slot has %d bytes, at most %d are allowed", len(slot), maxSlot))
	case !utf8.ValidString(slot):
		return refuse("the name of the slot is not UTF-8")
	case strings.Contains(slot, "/"), slot == ".", strings.Contains(slot, ".."):
		return refuse("the name of a slot must not be a path")
	}
	var b strings.Builder
	for i, r := range slot {
		switch {
		case !unicode.IsGraphic(r):
			return refuse("the name of the slot holds a control character")
		case strings.ContainsRune(`%:\*?"<>|`, r), i == 0 && (r == '.' || r == '_'):
			fmt.Fprintf(&b, "%%%02X", r)
		default:
			b.WriteRune(r)
		}
	}
	if b.Len() > maxSlotFile {
		return refuse(fmt.Sprintf("the name of the slot needs %d bytes as a file name, at most %d are allowed", b.Len(), maxSlotFile))
	}
	return b.String() + ".json", nil
}

// slotOf reads the slot back from its file name.
func slotOf(file string) (string, bool) {
	name, ok := strings.CutSuffix(file, ".json")
	if !ok {
		return "", false
	}
	slot, err := url.PathUnescape(name)
	if err != nil {
		return "", false
	}
	if again, err := slotFile(slot); err != nil || again != file {
		return "", false
	}
	return slot, true
}
