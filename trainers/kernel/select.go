package kernel

import "strings"

// candidates lists every set of this build, best first. Auto takes the first that this processor can run.
func candidates() []Set {
	return append(native(), new(gonumSet))
}

// Names lists what Select knows on this machine, besides auto, best first.
func Names() []string {
	var names []string
	for _, s := range candidates() {
		names = append(names, s.Name())
	}
	return names
}

// Select gives the set of that name. The empty name and "auto" mean the fastest one that this machine can run.
// Select once and share the set: the assembly sets keep 0.8 MB of workspace for each call that runs at the same time,
// so that no call allocates after the first ones. Select reads no environment; see Prefer.
// An unknown name is a *NameError.
func Select(name string) (Set, error) {
	sets := candidates()
	if name == "" || name == "auto" {
		return sets[0], nil
	}
	for _, s := range sets {
		if s.Name() == name {
			return s, nil
		}
	}
	return nil, &NameError{Name: name}
}

// Prefer gives the name to select for a job on a machine whose owner has a wish, such as the value of DKPIPE_KERNEL: the
// wish takes the place of auto, not of a set that the job names. Both may be empty.
func Prefer(name, wish string) string {
	if wish != "" && (name == "" || name == "auto") {
		return wish
	}
	return name
}

// NameError reports a kernel set that does not exist here.
type NameError struct{ Name string }

func (e *NameError) Error() string {
	return "kernel " + `"` + e.Name + `"` + " is not available on this machine"
}

// ErrorKind makes the command line exit as for a wrong flag.
func (e *NameError) ErrorKind() string { return "usage" }

// ErrorHint lists the names that work.
func (e *NameError) ErrorHint() string { return "use auto, " + strings.Join(Names(), ", ") }
