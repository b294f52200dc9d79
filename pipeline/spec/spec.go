// Package spec is the YAML job file: every command reads the same one, on a laptop and on a cluster.
//
// Decoding is strict. An unknown field, a wrong type or a missing field is an error that names file, line, column,
// field and the nearest known name. The package knows names and shapes, not what they do: the fields of transformers,
// layers and optimizers stay undecoded Items until the package that knows them asks. It imports nothing of dkpipe.
package spec

// Spec is a whole job file after variables and defaults. Paths in it are resolved against the file's folder.
type Spec struct {
	Name      string
	Params    map[string]any
	Spark     Spark
	Source    Source
	Expect    Expect
	Transform []Item
	Columns   Columns
	Split     Split
	Dataset   Dataset
	Model     Model
	Train     Train
	Gate      *Gate
	Output    Output

	File   string // where it was read from
	Bytes  []byte // the file as it was
	SHA256 string // of Bytes and the values of params and --set: names the job in manifests
}

// Item is a one-key map such as {min_max: {input: pixels}}: a name and fields that another package decodes.
type Item struct {
	Name string
	Pos  Pos
	// Decode decodes the fields strictly into a pointer to a struct with yaml tags. Its errors carry positions.
	// A missing body decodes as an empty map.
	Decode func(into any) error
}

// Pos is a place in a spec file.
type Pos struct {
	File         string
	Line, Column int
	Field        string // path from the root: transform[1].min_max.input
}

// Spark says where the Spark Connect server is; an empty Remote means the embedded engine.
type Spark struct {
	Remote string `yaml:"remote"`
}

// Source has exactly one of its formats set.
type Source struct {
	CSV     []string          `yaml:"csv"` // one path or a list; * in the last element is a glob
	Parquet []string          `yaml:"parquet"`
	Arrow   []string          `yaml:"arrow"`
	JSON    []string          `yaml:"json"`
	IDX     []string          `yaml:"idx"`
	Table   string            `yaml:"table"`
	SQL     string            `yaml:"sql"`
	Types   map[string]string `yaml:"types"` // column -> bool, int64, float64, string
}

// Expect is checked before anything is trained.
type Expect struct {
	MinRows int64                `yaml:"min_rows"`
	MaxNull map[string]float64   `yaml:"max_null"`
	Labels  map[string][]float64 `yaml:"labels"`
}

// Columns gives columns their roles.
type Columns struct {
	X      []string `yaml:"x"`
	Y      []string `yaml:"y"`
	Weight string   `yaml:"weight"`
	Keep   []string `yaml:"keep"`
}

// Split cuts rows by the hash of a key. Fractions sum to 1; train alone is 1 when nothing is said.
type Split struct {
	Key        string  `yaml:"key"`
	Seed       int64   `yaml:"seed"`
	Train      float64 `yaml:"train"`
	Validation float64 `yaml:"validation"`
	Test       float64 `yaml:"test"`
}

// Dataset says where prepared data goes.
type Dataset struct {
	Path         string `yaml:"path"`
	Shards       int    `yaml:"shards"`
	Live         bool   `yaml:"live"`
	KeepVersions int    `yaml:"keep_versions"`
}

// Model is a list of layers, or a Keras file.
type Model struct {
	Layers []Item
	Keras  string
	Pos    Pos
}

// Train says how to train.
type Train struct {
	Trainer      Item // a bare name, or {name: {fields}}
	Workers      int
	Window       int
	Epochs       int
	BatchSize    int
	Optimizer    Item // a bare name, or {name: {fields}}
	Loss         string
	Metrics      []string
	Launch       string // in-process or process
	ClassWeight  map[int]float64
	Seed         int64
	Kernel       string // auto, or the name of a kernel set
	FeedBudgetMB int    // memory for read-ahead and shuffling, all workers of a process together
	Pos          Pos
}

// Gate keeps a model that is not good enough from being published.
type Gate struct {
	Metric           string   `yaml:"metric"`
	AtLeast          *float64 `yaml:"at_least"`
	AtMost           *float64 `yaml:"at_most"`
	NotBelowLatestBy *float64 `yaml:"not_below_latest_by"`
	Pos              Pos      `yaml:"-"`
}

// Output says where models go.
type Output struct {
	Path         string `yaml:"path"`
	KeepVersions int    `yaml:"keep_versions"`
}
