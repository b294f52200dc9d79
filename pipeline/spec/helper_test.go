package spec

import (
	"errors"
	"strings"
	"testing"
)

// read decodes text and fails the test when that goes wrong.
func read(t *testing.T, text string, opt Options) *Spec {
	t.Helper()
	s, err := Read("job.yaml", []byte(text), opt)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return s
}

// refuse decodes text and fails the test when that goes well.
func refuse(t *testing.T, text string, opt Options) *Error {
	t.Helper()
	s, err := Read("job.yaml", []byte(text), opt)
	if err == nil {
		t.Fatalf("Read gave no error for:\n%s", text)
	}
	if s != nil {
		t.Errorf("Read gave a spec beside the error %v", err)
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("Read gave a %T, want *Error: %v", err, err)
	}
	if e.ErrorKind() != "spec" || len(e.Problems) == 0 || len(e.Problems) > 10 {
		t.Errorf("kind %q, %d problems", e.ErrorKind(), len(e.Problems))
	}
	return e
}

// item reads body as the fields of one transformer.
func item(t *testing.T, body string, opt Options) Item {
	t.Helper()
	s := read(t, "transform:\n  - op:\n      "+strings.ReplaceAll(body, "\n", "\n      ")+"\n", opt)
	return s.Transform[0]
}
