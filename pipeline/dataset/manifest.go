package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"dkpipe/pipeline"
)

// Format is what the first field of a manifest says.
const Format = "dkpipe-dataset/1"

// ManifestName is the manifest's name inside a version's folder.
const ManifestName = "manifest.json"

// MaxManifestBytes is the largest manifest that Decode accepts.
const MaxManifestBytes = 256 << 20

// Manifest describes one version of a dataset: everything that is needed to read it and to repeat it.
type Manifest struct {
	Format          string                `json:"format"` // set by Encode
	Version         int                   `json:"version"`
	Created         time.Time             `json:"created"`
	Run             string                `json:"run"`            // which run wrote it
	Slot            string                `json:"slot,omitempty"` // which scheduled slot it was for
	Engine          string                `json:"engine"`         // local, or spark with its version
	SpecSHA256      string                `json:"spec_sha256"`
	Source          Source                `json:"source"`
	Columns         []pipeline.ColumnInfo `json:"columns"`          // in the order of a batch: inputs, outputs, weight, keep
	Transform       json.RawMessage       `json:"transform"`        // the fitted transformers, a JSON list
	TransformSHA256 string                `json:"transform_sha256"` // set by Encode: see TransformSHA256
	Split           Split                 `json:"split"`
	Shards          []pipeline.ShardInfo  `json:"shards"` // empty for a live dataset
}

// Source says where the rows came from; it mirrors pipeline.Source.
type Source struct {
	Format pipeline.Format   `json:"format"`
	Files  []string          `json:"files,omitempty"`
	Text   string            `json:"text,omitempty"`
	Types  map[string]string `json:"types,omitempty"`
}

// Split says how rows were cut into parts.
type Split struct {
	Key   string `json:"key"`
	Seed  int64  `json:"seed"`
	Parts Parts  `json:"parts"`
}

// Parts are shares of the rows in the order of the hash range. In JSON they are an object that keeps that order.
type Parts []pipeline.Part

// MarshalJSON writes {"train":0.8,"test":0.2}.
func (p Parts) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, part := range p {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(part.Name)
		if err != nil {
			return nil, err
		}
		share, err := json.Marshal(part.Fraction)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), share...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads the form that MarshalJSON writes.
func (p *Parts) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return errors.New("split.parts: want an object such as {\"train\":0.8,\"test\":0.2}")
	}
	var out Parts
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string) // a key is always a string
		var share float64
		if err := d.Decode(&share); err != nil {
			return err
		}
		out = append(out, pipeline.Part{Name: name, Fraction: share})
	}
	*p = out
	return nil
}

// Encode gives the manifest's bytes, one shard a line. It sets Format and TransformSHA256, and refuses a manifest
// that Decode would refuse.
func (m *Manifest) Encode() ([]byte, error) {
	m.Format = Format
	if len(m.Transform) == 0 {
		m.Transform = json.RawMessage("[]")
	}
	sum, err := TransformSHA256(m.Transform)
	if err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Internal, Message: ManifestName + ": transform", Err: err}
	}
	m.TransformSHA256 = sum
	if m.Shards == nil {
		m.Shards = []pipeline.ShardInfo{}
	}
	if err := m.check(); err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Internal, Message: ManifestName + " to be written", Err: err}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Internal, Message: ManifestName + " to be written", Err: err}
	}
	return breakLines(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// Decode reads a manifest strictly: an unknown or doubled field, a value outside its range, or a transform that does
// not have its hash is an error of kind Corrupt that names the file; a format of a later dkpipe is Unsupported.
// name is the manifest's path, for messages.
func Decode(name string, b []byte) (*Manifest, error) {
	corrupt := func(err error) error {
		return &pipeline.Error{Kind: pipeline.Corrupt, Message: name, Err: err,
			Hint: "prepare the dataset again, or use an older version of it"}
	}
	if len(b) > MaxManifestBytes {
		return nil, corrupt(fmt.Errorf("%d bytes, at most %d are read", len(b), MaxManifestBytes))
	}
	if err := checkSyntax(b); err != nil {
		return nil, corrupt(err)
	}
	var head struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, corrupt(err)
	}
	if head.Format != Format {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported,
			Message: fmt.Sprintf("%s: format %.40q, this program reads %q", name, head.Format, Format),
			Hint:    "use the version of dkpipe that wrote the dataset, or prepare it again"}
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, corrupt(err)
	}
	if err := m.check(); err != nil {
		return nil, corrupt(err)
	}
	sum, err := TransformSHA256(m.Transform)
	if err != nil {
		return nil, corrupt(fmt.Errorf("transform: %w", err))
	}
	if sum != m.TransformSHA256 {
		return nil, corrupt(fmt.Errorf("transform has SHA-256 %.12s…, transform_sha256 says %.12s…", sum, m.TransformSHA256))
	}
	return &m, nil
}

// Rows gives the number of rows of a split.
func (m *Manifest) Rows(split string) int64 {
	var n int64
	for _, s := range m.Shards {
		if s.Split == split {
			n += s.Rows
		}
	}
	return n
}

// checkSyntax refuses what encoding/json lets pass: doubled fields, deep nesting, bytes behind the value.
func checkSyntax(b []byte) error {
	const maxDepth = 512
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	type level struct {
		names map[string]bool // nil in a list
		value bool            // in an object: the next token is a value
	}
	var stack []level
	for {
		t, err := d.Token()
		if err == io.EOF && len(stack) == 0 {
			return errors.New("empty")
		}
		if err != nil {
			return err
		}
		if n := len(stack); n > 0 && stack[n-1].names != nil {
			top := &stack[n-1]
			if name, ok := t.(string); ok && !top.value {
				if top.names[name] {
					return fmt.Errorf("field %.60q stands twice, offset %d", name, d.InputOffset())
				}
				top.names[name] = true
				top.value = true
				continue
			}
			top.value = false
		}
		switch t {
		case json.Delim('{'):
			stack = append(stack, level{names: map[string]bool{}})
		case json.Delim('['):
			stack = append(stack, level{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
		if len(stack) > maxDepth {
			return fmt.Errorf("nested more than %d deep, offset %d", maxDepth, d.InputOffset())
		}
		if len(stack) == 0 {
			break
		}
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the manifest's last brace, offset %d", d.InputOffset())
	}
	return nil
}

// breakLines puts every field, and every element of a top-level list, on a line of its own, so that people can read
// a manifest and two of them can be compared line by line.
func breakLines(b []byte) []byte {
	out := make([]byte, 0, len(b)+len(b)/16)
	depth, inString, list := 0, false, false
	for i := 0; i < len(b); i++ {
		c := b[i]
		out = append(out, c)
		if inString {
			switch c {
			case '\\':
				i++
				out = append(out, b[i])
			case '"':
				inString = false
			}
			continue
		}
		switch c {
		case '"':
			inString = true
		case '{', '[':
			depth++
			if depth == 2 {
				list = c == '['
			}
			if depth == 1 {
				out = append(out, '\n')
			}
		case '}', ']':
			depth--
		case ',':
			if depth == 1 {
				out = append(out, '\n')
			}
			if depth == 2 && list {
				out = append(out, '\n', ' ')
			}
		}
	}
	return append(out, '\n')
}
