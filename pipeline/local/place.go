package local

import (
	"fmt"

	"dkpipe/pipeline"
)

// Place says where a row of the source came from.
type Place struct {
	File string
	Line int64 // 1 is the first line of the file; 0 where the format has no lines
	Row  int64 // 1 is the first row of the file
}

// String gives "digits.csv, line 12", or "digits.parquet, row 11" where the format has no lines.
func (p Place) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s, line %d", p.File, p.Line)
	}
	return fmt.Sprintf("%s, row %d", p.File, p.Row)
}

func dataErr(hint, format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf(format, a...), Hint: hint}
}

func corruptErr(err error, hint, format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf(format, a...), Hint: hint, Err: err}
}

func specErr(hint, format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf(format, a...), Hint: hint}
}

func unsupportedErr(hint, format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf(format, a...), Hint: hint}
}

// shown cuts a value for an error message.
func shown(b []byte) string {
	const limit = 60
	if len(b) > limit {
		return fmt.Sprintf("%q...", b[:limit])
	}
	return fmt.Sprintf("%q", b)
}
