package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"

	"dkpipe/pipeline"
)

// The encodings of a stored column.
const (
	EncodingF32LE = "f32le"    // fixed-length byte array of 4n bytes: what Writer makes
	EncodingList  = "list"     // array<float>, as Spark writes it
	EncodingAvro  = "avro_f32" // Avro array<float>: zigzag varint count, floats, one zero byte
	EncodingU8    = "u8"       // one byte a value, as a byte array or a fixed-length one
	EncodingPlain = "plain"    // keep columns: BIGINT, DOUBLE or text
)

// The roles of a column.
const (
	RoleX      = "x"
	RoleY      = "y"
	RoleWeight = "weight"
	RoleKeep   = "keep"
)

// Limits of a manifest. They bound what a hostile file can make a reader allocate.
const (
	maxColumns = 1 << 16
	maxShards  = 1 << 20
	maxWidth   = 1 << 26 // floats of one column in one row
	maxName    = 4096
	maxRows    = 1 << 40 // of a shard
	maxRowSize = 1 << 30 // bytes of the vectors of one row
)

// TransformSHA256 gives the SHA-256, in hex, of the fitted transformers in canonical form: JSON without white space,
// object fields sorted by name, numbers as they are spelled, no HTML escapes. Formatting a file anew does not change
// it. Empty input counts as an empty list.
func TransformSHA256(transform json.RawMessage) (string, error) {
	if len(transform) == 0 {
		transform = json.RawMessage("[]")
	}
	d := json.NewDecoder(bytes.NewReader(transform))
	d.UseNumber()
	var v []any
	if err := d.Decode(&v); err != nil {
		return "", err
	}
	if v == nil {
		v = []any{}
	}
	h := sha256.New()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	h.Write(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (m *Manifest) check() error {
	switch {
	case m.Version < 0:
		return fmt.Errorf("version %d", m.Version)
	case len(m.Columns) == 0 || len(m.Columns) > maxColumns:
		return fmt.Errorf("%d columns, want 1 to %d", len(m.Columns), maxColumns)
	case len(m.Shards) > maxShards:
		return fmt.Errorf("%d shards, want at most %d", len(m.Shards), maxShards)
	}
	names := make(map[string]bool, len(m.Columns))
	weights, rowSize := 0, int64(0)
	for i, c := range m.Columns {
		if err := checkColumn(c); err != nil {
			return fmt.Errorf("columns[%d]: %w", i, err)
		}
		if names[c.Name] {
			return fmt.Errorf("columns[%d]: %q stands twice", i, c.Name)
		}
		names[c.Name] = true
		if c.Role != RoleKeep {
			w, _ := width(c) // was checked
			if rowSize += 4 * int64(w); rowSize > maxRowSize {
				return fmt.Errorf("columns[%d]: a row of more than %d bytes", i, maxRowSize)
			}
		}
		if c.Role == RoleWeight {
			weights++
		}
	}
	if weights > 1 {
		return fmt.Errorf("%d weight columns, want at most one", weights)
	}
	if err := m.Split.check(); err != nil {
		return err
	}
	paths := make(map[string]bool, len(m.Shards))
	for i, s := range m.Shards {
		if err := checkShard(s); err != nil {
			return fmt.Errorf("shards[%d]: %w", i, err)
		}
		if paths[s.Path] {
			return fmt.Errorf("shards[%d]: %q stands twice", i, s.Path)
		}
		paths[s.Path] = true
	}
	return nil
}

func (s Split) check() error {
	seen := map[string]bool{}
	sum := 0.0
	for _, p := range s.Parts {
		if !partName(p.Name) || seen[p.Name] {
			return fmt.Errorf("split.parts: bad or doubled name %.60q", p.Name)
		}
		seen[p.Name] = true
		if !(p.Fraction >= 0 && p.Fraction <= 1) {
			return fmt.Errorf("split.parts.%s: %v, want 0 to 1", p.Name, p.Fraction)
		}
		sum += p.Fraction
	}
	if len(s.Parts) > 0 && math.Abs(sum-1) > 1e-6 {
		return fmt.Errorf("split.parts: the shares sum to %v, want 1", sum)
	}
	return nil
}

func checkColumn(c pipeline.ColumnInfo) error {
	if c.Name == "" || len(c.Name) > maxName {
		return fmt.Errorf("name of %d bytes", len(c.Name))
	}
	if math.IsNaN(c.Offset) || math.IsInf(c.Offset, 0) || math.IsNaN(c.Scale) || math.IsInf(c.Scale, 0) {
		return fmt.Errorf("column %q: scale %v, offset %v", c.Name, c.Scale, c.Offset)
	}
	switch c.Role {
	case RoleKeep:
		switch c.DType {
		case "int64", "float64", "string":
		default:
			return fmt.Errorf("column %q: dtype %.40q, want int64, float64 or string", c.Name, c.DType)
		}
		if c.Encoding != EncodingPlain || len(c.Shape) > 0 {
			return fmt.Errorf("column %q: a keep column is a scalar of encoding plain", c.Name)
		}
		return nil
	case RoleX, RoleY, RoleWeight:
	default:
		return fmt.Errorf("column %q: role %.40q, want x, y, weight or keep", c.Name, c.Role)
	}
	if c.DType != "float32" {
		return fmt.Errorf("column %q: dtype %.40q, want float32", c.Name, c.DType)
	}
	if c.Scale == 0 {
		return fmt.Errorf("column %q: scale 0 would make every value the same", c.Name)
	}
	w, err := width(c)
	if err != nil {
		return err
	}
	if c.Role == RoleWeight && w != 1 {
		return fmt.Errorf("column %q: a weight is one number a row, shape says %d", c.Name, w)
	}
	switch c.Encoding {
	case EncodingF32LE, EncodingList, EncodingAvro, EncodingU8:
		return nil
	}
	return fmt.Errorf("column %q: encoding %.40q, want f32le, list, avro_f32 or u8", c.Name, c.Encoding)
}

// width is the number of floats of a column in one row.
func width(c pipeline.ColumnInfo) (int, error) {
	w := 1
	for _, n := range c.Shape {
		if n < 1 || n > maxWidth || w > maxWidth/n {
			return 0, fmt.Errorf("column %q: shape %v, want 1 to %d numbers a row", c.Name, c.Shape, maxWidth)
		}
		w *= n
	}
	return w, nil
}

func checkShard(s pipeline.ShardInfo) error {
	switch {
	case !partName(s.Split):
		return fmt.Errorf("split %.60q", s.Split)
	case len(s.Path) > maxName || !fs.ValidPath(s.Path) || s.Path == "." || strings.Contains(s.Path, "\\"):
		return fmt.Errorf("path %.200q is not a path below the dataset's folder", s.Path)
	case s.Rows < 0 || s.Rows > maxRows:
		return fmt.Errorf("%s: %d rows", s.Path, s.Rows)
	case s.Bytes < 0 || s.Bytes > 1<<56:
		return fmt.Errorf("%s: %d bytes", s.Path, s.Bytes)
	}
	if sum, err := hex.DecodeString(s.SHA256); err != nil || len(sum) != sha256.Size || s.SHA256 != strings.ToLower(s.SHA256) {
		return fmt.Errorf("%s: sha256 %.80q is not 64 lower-case hex digits", s.Path, s.SHA256)
	}
	return nil
}

// partName allows what can be a folder's name on every store.
func partName(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '.' || s[0] == '_' {
		return false
	}
	for _, r := range s {
		if r != '-' && r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return true
}

// errKind reads the kind of an error that carries one.
func errKind(err error) (pipeline.Kind, bool) {
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) {
		return pipeline.Kind(k.ErrorKind()), true
	}
	return "", false
}
