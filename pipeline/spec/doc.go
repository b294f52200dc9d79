// Package spec is the YAML job file: every command reads the same one, on a laptop and on a cluster.
//
// Decoding is strict. An unknown field, a wrong type or a missing field is an error that names file, line, column,
// field and the nearest known name, and all errors of a file are reported at once:
//
//	job.yaml:12:5: train.batch_sise: unknown field; did you mean batch_size?
//
// The package knows names and shapes, not what they do: the fields of transformers, layers and optimizers stay
// undecoded Items until the package that knows them asks. It imports nothing of dkpipe.
//
// # The file
//
//	# Every field of a job file. Only what a command needs must be there; the values are the defaults where it says so.
//	name: churn                                  # in manifests and logs; default: the file's name
//	params: {min_age: 18, country: DE, since: 2026-01-01}   # {{min_age}}, …; --param min_age=21
//	spark:
//	  remote: "sc://spark.example:15002/;use_ssl=true"   # or SPARK_REMOTE; leave out, or write "", for the embedded engine
//	  ca: ca.pem                                 # for TLS, PEM files: who signs the server's certificate; default the system's (or SPARK_REMOTE_CA)
//	  cert: client.pem                           # a client certificate and its key (or SPARK_REMOTE_CERT, SPARK_REMOTE_KEY)
//	  key: client.key
//	  insecure_plaintext: false                  # true lets a token go to another machine in plaintext
//
//	source:                                      # exactly one of csv, parquet, arrow, json, idx, table, sql
//	  sql: |                                     # variables become literals of their type
//	    SELECT * FROM customers
//	    WHERE ds = '{{slot_date}}' AND age >= {{min_age}} AND country = {{country}} AND joined >= {{since}}
//	  # csv: data/customers-*.csv                # one path or a list, from this file's folder; or hdfs://…
//	  # types: {zip: string}                     # overrules what a csv or json file suggests: bool, int64, float64, string
//
//	expect:                                      # broken: the job stops before it trains
//	  min_rows: 1000
//	  max_null: {age: 0.01}                      # largest share of NULL
//	  labels: {churned: [0, 1]}                  # all the values there may be
//
//	transform:                                   # in order; each entry is one transformer
//	  - filter: {where: "income < 1e7"}
//	  - assemble: {inputs: [age, income], output: raw}
//	  - standard: {input: raw, output: features}
//	  - one_hot: {input: churned, output: target, size: 2}
//
//	columns: {x: [features], y: [target], weight: null, keep: [id]}
//	split: {key: id, seed: 1, train: 0.8, validation: 0.1, test: 0.1}   # default: all rows train
//	dataset: {path: out/dataset, shards: 4, live: false, keep_versions: 5}  # shards default: as many as workers
//
//	model:                                       # layers, or a file: {keras: model.json}
//	  layers:
//	    - dense: {units: 64, activation: relu}   # every layer takes trainable: false
//	    - dropout: {rate: 0.2}
//	    - dense: {units: 2, activation: softmax}
//
//	train:
//	  trainer: {agn: {}}                         # a bare name will do; default: single, for one worker
//	  workers: 4                                 # default 1
//	  window: 4                                  # steps between exchanges; default: the trainer's own
//	  epochs: 20                                 # default 1
//	  batch_size: 32                             # default 32
//	  optimizer: {adam: {learning_rate: 0.005}}  # default: adam
//	  loss: categorical_crossentropy             # or {name: {fields}}, or one an output: [mse, {kind: huber}]; has no default
//	  loss_weights: [1]                          # one an output; default: 1 for all
//	  metrics: [accuracy]                        # the default for crossentropies
//	  launch: in-process                         # default; or process, join, spark
//	  listen: 127.0.0.1:7070                     # of launch join and spark; default: a free port of this machine
//	  advertise: 127.0.0.1:7070                  # what workers are told instead; default: listen
//	  servers: 0                                 # default; data servers to start for the parameters, or [host1:7071, host2:7071]
//	  codec: fp32                                # default; or bf16, int8, topk, auto, where workers are not in-process
//	  min_workers: 1                             # default; a run with fewer ends,
//	  join_seconds: 300                          # with launch join and spark after so long; default
//	  class_weight: {0: 1, 1: 5}                 # default: 1 for every class
//	  validate: {every: 1}                       # epochs; the default where there are validation rows
//	  early_stopping: {monitor: val_loss, patience: 5, min_delta: 0.001, mode: auto, restore_best: true}   # default: none
//	  reduce_on_plateau: {monitor: val_loss, factor: 0.1, patience: 10, min_delta: 0.0001, cooldown: 0, min_lr: 0, mode: auto}   # default: none
//	  target: {metric: val_accuracy, at_least: 0.95}   # or at_most; default: none
//	  max_steps: 100000                          # of all workers together; default: no limit
//	  max_seconds: 3600                          # default: no limit
//	  checkpoint: {path: out/checkpoint, every_seconds: 60, every_steps: 10000, keep: 3, keep_best: 1}   # for --resume; default: none
//	  seed: 1                                    # default 0
//	  kernel: auto                               # default
//	  feed_budget_mb: 256                        # default
//
//	gate: {metric: accuracy, at_least: 0.9, not_below_latest_by: 0.01}   # broken: kept, but not published; also at_most
//	output: {path: "hdfs://ns/models/churn", keep_versions: 5}
//
// It is YAML 1.2 without anchors, aliases, tags and further documents. Only true and false are truth values, 1e-3 and
// 1_000 are numbers, and a number where text belongs is an error, as text is where a number belongs.
//
// # Variables
//
// A value may hold {{name}} of a parameter, {{slot}} and {{slot_date}} ({{'{{'}} is two plain braces). A value that is
// nothing but one variable takes its type; within longer text the value is inserted. A parameter has the type of its
// default: text, whole number, number, truth value, or date when it is an unquoted yyyy-mm-dd.
// In source.sql, and in the sql and filter transformers, variables within longer text become SQL: text in single
// quotes, with quotes, backslashes and dollar signs escaped, numbers as they are, dates as DATE 'yyyy-mm-dd'. Where the
// variable stands inside of quotes already, as in '{{slot_date}}', its text is inserted, escaped. A place where text
// cannot be escaped (a comment, a name in backticks, a raw literal) takes only text that cannot leave it.
//
// # Changing a field from the command line
//
// --set train.epochs=3,columns.x=[a, b] changes single fields; the values are YAML. See Options.Set and SplitSet.
package spec
