package spec

// Spec is a whole job file after variables and defaults. Paths in it are resolved against the file's folder.
type Spec struct {
	// Name names the job in manifests, logs and job lists; default: the file's name without its extension.
	Name string `yaml:"name"`
	// Params holds the parameters' values: string, int64, float64, bool or Date, from --param or the defaults.
	Params    map[string]any `yaml:"params"`
	Spark     Spark          `yaml:"spark"`
	Source    Source         `yaml:"source"`
	Expect    Expect         `yaml:"expect"`
	Transform []Item         `yaml:"transform"` // in order; empty: columns are used as they are
	Columns   Columns        `yaml:"columns"`
	Split     Split          `yaml:"split"`
	Dataset   Dataset        `yaml:"dataset"`
	Model     Model          `yaml:"model"`
	Train     Train          `yaml:"train"`
	Gate      *Gate          `yaml:"gate"` // nil: every model is published
	Output    Output         `yaml:"output"`

	File     string   `yaml:"-"` // where it was read from
	Bytes    []byte   `yaml:"-"` // the file as it was
	SHA256   string   `yaml:"-"` // hex, of Bytes and the values of params and --set: names the job in manifests
	Slot     string   `yaml:"-"` // as given by --slot, or empty
	Warnings []string `yaml:"-"` // what is allowed but looks like a slip: job.yaml:12:5: train.workers: …

	resolvedText []byte // see Resolved
}

// Item is a one-key map such as {min_max: {input: pixels}}, or a bare name: a name and fields that another package
// decodes.
//
// Decode takes a pointer, as a rule to a struct whose fields have yaml tags. It sets what the file names and leaves
// the rest, so defaults are set before. It knows text, truth values, numbers, time.Duration ("90s"), slices, arrays,
// maps, pointers (nil when absent), nested and embedded structs, any, and types with a method
// UnmarshalYAML(decode func(into any) error) error, which may try one form after the other. A field that is null
// counts as absent. A spec tag beside the yaml tag asks for more, its words separated by commas:
//
//	required         the field must be there and filled
//	filled           text, a list or a map that is there must not be empty
//	min= max=        bounds of a number, or of every number in a list or a map
//	above= below=    bounds that the number itself may not reach
//	enum=a|b|c       the only texts
//	len=2            so many elements
//	single           one element may stand without brackets: input: a, and input: [a, b]
//	inf              .inf and -.inf are welcome
type Item struct {
	Name string
	Pos  Pos
	// Decode decodes the fields strictly into a pointer to a struct with yaml tags. Its errors carry positions.
	// A missing body decodes as an empty map.
	Decode func(into any) error

	body *node
	path string
	file string
}

// Spark says where the Spark Connect server is.
type Spark struct {
	// Remote is a connection string, sc://host:15002. When the file does not have it, SPARK_REMOTE of the environment
	// counts; empty in the file ("") means the embedded engine whatever the environment says.
	Remote string `yaml:"remote"`
	// CA is a PEM file with the authorities that the server's certificate is checked with, instead of the system's; Cert
	// and Key are PEM files of a client certificate. All are for TLS.
	CA   string `yaml:"ca" spec:"filled"`
	Cert string `yaml:"cert" spec:"filled"`
	Key  string `yaml:"key" spec:"filled"`
	// InsecurePlaintext lets a token go to another machine in plaintext.
	InsecurePlaintext bool `yaml:"insecure_plaintext"`
	Pos               Pos  `yaml:"-"` // where Remote was said: the field, or SPARK_REMOTE
}

// Source has exactly one of its formats set.
type Source struct {
	CSV     []string `yaml:"csv" spec:"single,filled"` // one path or a list; * in the last element is a glob
	Parquet []string `yaml:"parquet" spec:"single,filled"`
	Arrow   []string `yaml:"arrow" spec:"single,filled"`
	JSON    []string `yaml:"json" spec:"single,filled"` // one object a line
	IDX     []string `yaml:"idx" spec:"single,filled"`
	Table   string   `yaml:"table" spec:"filled"` // needs Spark
	SQL     string   `yaml:"sql" spec:"filled"`   // needs Spark; variables become literals of their type
	// Types overrules the column types that a CSV or JSON file suggests: column -> bool, int64, float64, string.
	Types map[string]string `yaml:"types" spec:"enum=bool|int64|float64|string"`
	Pos   Pos               `yaml:"-"`
}

// Expect is checked before anything is trained. What is absent is not checked.
type Expect struct {
	MinRows int64                `yaml:"min_rows" spec:"min=0"`
	MaxNull map[string]float64   `yaml:"max_null" spec:"min=0,max=1"` // column -> largest share of NULL or NaN
	Labels  map[string][]float64 `yaml:"labels"`                      // column -> all the values it may have
}

// Columns gives columns their roles.
type Columns struct {
	X      []string `yaml:"x" spec:"single"`    // model inputs, in the model's order
	Y      []string `yaml:"y" spec:"single"`    // model outputs, in the model's order
	Weight string   `yaml:"weight"`             // sample weights; default: none
	Keep   []string `yaml:"keep" spec:"single"` // scalar columns stored beside the features, such as a key
}

// Split cuts rows by the hash of a key. Fractions sum to 1; train alone is 1 when nothing is said.
type Split struct {
	Key        string  `yaml:"key"`  // needed as soon as there is more than one part
	Seed       int64   `yaml:"seed"` // default 0
	Train      float64 `yaml:"train" spec:"min=0,max=1"`
	Validation float64 `yaml:"validation" spec:"min=0,max=1"`
	Test       float64 `yaml:"test" spec:"min=0,max=1"`
}

// Dataset says where prepared data goes.
type Dataset struct {
	Path         string `yaml:"path" spec:"required"`
	Shards       int    `yaml:"shards" spec:"min=1,max=100000"`       // of each part; default: as many as train.workers
	Live         bool   `yaml:"live"`                                 // stream out of Spark instead of writing files; default false
	KeepVersions int    `yaml:"keep_versions" spec:"min=1,max=10000"` // default 5
}

// Model is a list of layers, or a Keras file.
type Model struct {
	Layers []Item `yaml:"layers" spec:"filled"`
	Keras  string `yaml:"keras" spec:"filled"` // model.json or model.keras
	Pos    Pos    `yaml:"-"`
}

// Train says how to train.
type Train struct {
	Trainer   Item `yaml:"trainer"`                             // a bare name, or {name: {fields}}; default single, for one worker only
	Workers   int  `yaml:"workers" spec:"min=1,max=10000"`      // default 1
	Window    int  `yaml:"window" spec:"min=1,max=1000000"`     // steps between exchanges; default 0: the trainer's own
	Epochs    int  `yaml:"epochs" spec:"min=1,max=1000000"`     // default 1
	BatchSize int  `yaml:"batch_size" spec:"min=1,max=1000000"` // default 32
	Optimizer Item `yaml:"optimizer"`                           // a bare name, or {name: {fields}}; default adam
	// Loss is what is made small: Keras's name of it, bare or as {name: {fields}}, for every output; or a list with one
	// for each output, in the order of columns.y, whose entries may also be {output: loss}.
	Loss        []Item    `yaml:"loss" spec:"required,single"`
	LossWeights []float64 `yaml:"loss_weights" spec:"above=0"` // of each output's loss in the sum; default: 1 for all
	Metrics     []string  `yaml:"metrics" spec:"single"`       // default [accuracy] for the crossentropies, else none; the loss is always there
	// Launch is in-process (goroutines, the default), process (local processes), join (wherever somebody starts them) or
	// spark (in Spark's executors).
	Launch string `yaml:"launch" spec:"enum=in-process|process|join|spark"`
	// Listen is the host:port at which launch join and spark await workers; default 127.0.0.1:0, any free port. Advertise
	// is the one that workers are told instead, where they see this machine under another; default: Listen.
	Listen    string `yaml:"listen" spec:"filled"`
	Advertise string `yaml:"advertise" spec:"filled"`
	// Servers are the data servers that hold the parameters; default none: they are in the run's own process. Codec is what
	// commits travel as between processes: fp32 (the default), bf16, int8 or topk, which leave out what they cannot say and
	// send it later, or auto, by the speed of each worker's link.
	Servers     Servers         `yaml:"servers"`
	Codec       string          `yaml:"codec" spec:"enum=fp32|bf16|int8|topk|auto"`
	MinWorkers  int             `yaml:"min_workers" spec:"min=1,max=10000"`   // fewer of them end the run; default 0: 1
	JoinSeconds int             `yaml:"join_seconds" spec:"min=1,max=604800"` // how long there may be fewer, with launch join and spark; default 0: 300
	ClassWeight map[int]float64 `yaml:"class_weight" spec:"min=0"`            // class -> weight of its samples; default: 1 for all
	// Validate, EarlyStopping, Target, MaxSteps and MaxSeconds watch the model while it is trained, and end training;
	// ReduceOnPlateau changes the learning rate. Where there are validation rows, the model is measured on them after
	// every epoch. Each member of an ensemble is watched by itself.
	Validate        *Validate        `yaml:"validate"`
	EarlyStopping   *EarlyStopping   `yaml:"early_stopping"`
	Target          *Target          `yaml:"target"`
	ReduceOnPlateau *ReduceOnPlateau `yaml:"reduce_on_plateau"`
	MaxSteps        int64            `yaml:"max_steps" spec:"min=1"`                    // of all workers together; default: no limit
	MaxSeconds      float64          `yaml:"max_seconds" spec:"above=0,max=1000000000"` // of training; default: no limit
	Checkpoint      *Checkpoint      `yaml:"checkpoint"`                                // nil: none
	Seed            int64            `yaml:"seed"`                                      // default 0
	Kernel          string           `yaml:"kernel"`                                    // auto (the default), or the name of a kernel set
	// FeedBudgetMB is the memory, in MiB, for read-ahead and shuffling, all workers of a process together; default 256.
	FeedBudgetMB int `yaml:"feed_budget_mb" spec:"min=1,max=1048576"`
	Pos          Pos `yaml:"-"`
}

// Gate keeps a model that is not good enough from being published. It has at least one condition.
type Gate struct {
	Metric           string   `yaml:"metric" spec:"required"` // loss, or one of train.metrics
	AtLeast          *float64 `yaml:"at_least"`
	AtMost           *float64 `yaml:"at_most"`
	NotBelowLatestBy *float64 `yaml:"not_below_latest_by" spec:"min=0"` // how far below the published model it may be
	Pos              Pos      `yaml:"-"`
}

// Output says where models go.
type Output struct {
	Path         string `yaml:"path" spec:"required"`
	KeepVersions int    `yaml:"keep_versions" spec:"min=1,max=10000"` // default 5
}

// defaults is a Spec with the defaults that do not depend on other fields.
func defaults() Spec {
	return Spec{
		Dataset: Dataset{KeepVersions: 5},
		Train: Train{
			Workers: 1, Epochs: 1, BatchSize: 32, Launch: "in-process", Codec: "fp32", Kernel: "auto", FeedBudgetMB: 256,
		},
		Output: Output{KeepVersions: 5},
	}
}
