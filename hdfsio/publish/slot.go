package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"dkpipe/hdfsio"
)

// Slot says which version did a slot of a schedule. It is the JSON of _slots/<slot>.json.
type Slot struct {
	Slot       string    `json:"slot"`
	Version    Version   `json:"version"`
	Run        string    `json:"run"`
	SpecSHA256 string    `json:"spec_sha256"`
	Time       time.Time `json:"time"`
}

// SlotState says how far a slot has come.
type SlotState int

// The states of a slot.
const (
	Open    SlotState = iota // nothing has done it, or what did it is gone: run it
	Pending                  // its version is there, and the run died before it moved LATEST: Lock.FinishSlot does that
	Done                     // LATEST has named its version or a newer one; also after a rollback
)

// SlotDone tells how far a slot has come, and what did it.
func SlotDone(ctx context.Context, fsys hdfsio.FS, root, slot string) (Slot, SlotState, error) {
	file, err := slotFile(slot)
	if err != nil {
		return Slot{}, Open, err
	}
	name := path.Join(root, slotsName, file)
	data, err := hdfsio.ReadFile(ctx, fsys, name, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return Slot{}, Open, nil
	}
	if err != nil {
		return Slot{}, Open, err
	}
	var s Slot
	if err := json.Unmarshal(data, &s); err != nil || s.Slot != slot || s.Version <= 0 {
		if err == nil {
			err = fmt.Errorf("it speaks of slot %q and version %d", s.Slot, int(s.Version))
		}
		return Slot{}, Open, &hdfsio.Error{Op: "read", Path: hdfsio.Name(fsys, name), Kind: hdfsio.KindCorrupt, Err: err,
			Hint: "remove the file to run the slot again"}
	}
	reached, err := reached(ctx, fsys, root)
	if err != nil {
		return Slot{}, Open, err
	}
	if s.Version <= reached {
		return s, Done, nil
	}
	_, err = Inspect(ctx, fsys, root, s.Version)
	switch {
	case err == nil:
		return s, Pending, nil
	case unusable(err):
		return s, Open, nil
	}
	return Slot{}, Open, err
}

// reached is the newest version that LATEST has ever named. A rollback does not lower it.
func reached(ctx context.Context, fsys hdfsio.FS, root string) (Version, error) {
	top, err := readPointer(ctx, fsys, root)
	if err != nil && !unusable(err) {
		return 0, err
	}
	history, err := History(ctx, fsys, root)
	for _, m := range history {
		top = max(top, m.Version)
	}
	return top, err
}

// RecordSlot writes which version did a slot, before LATEST moves to it. An earlier record of the slot is replaced. A
// zero Time means now.
func (l *Lock) RecordSlot(ctx context.Context, s Slot) error {
	file, err := slotFile(s.Slot)
	if err != nil {
		return err
	}
	if s.Time.IsZero() {
		s.Time = time.Now().UTC()
	}
	if err := l.step("slots folder made", func() error { return l.fs.Mkdir(ctx, l.path(slotsName)) }); err != nil {
		return err
	}
	return l.put(ctx, "slot", l.path(slotsName, file), encode(s))
}

// FinishSlot tells how far a slot has come, and moves LATEST when that is all that is missing. A run calls it first,
// and skips its work when the slot is done afterwards.
func (l *Lock) FinishSlot(ctx context.Context, slot string) (Slot, SlotState, error) {
	s, state, err := SlotDone(ctx, l.fs, l.root, slot)
	if err != nil || state != Pending {
		return s, state, err
	}
	if err := l.MoveLatest(ctx, s.Version); err != nil {
		return s, state, err
	}
	return s, Done, nil
}

// Slots lists the names of the slots that have a record, in the order of their file names.
func Slots(ctx context.Context, fsys hdfsio.FS, root string) ([]string, error) {
	entries, err := fsys.ReadDir(ctx, path.Join(root, slotsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var slots []string
	for _, e := range entries {
		if slot, ok := slotOf(e.Name); ok {
			slots = append(slots, slot)
		}
	}
	return slots, nil
}
