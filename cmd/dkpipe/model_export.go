package main

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/pipeline/local"
	"dkpipe/trainers/model/formats/onnx"
)

// exportOptions are what export is asked for.
type exportOptions struct {
	to, out, like, definition string
	withoutTransform, force   bool
	member                    int // of an ensemble; -1: all
}

func (a *app) modelExportCommand() *cobra.Command {
	var o exportOptions
	c := &cobra.Command{
		Use:   "export --to keras|onnx|safetensors --out FILE MODEL",
		Short: "Write a model for Keras, ONNX or safetensors",
		Long: "An ONNX file has the fitted preprocessing in front of the layers and takes raw columns by their names, each of shape\n" +
			"[N, 1], or [N, width] for a vector; a missing number is NaN. Rows that the job leaves out (filters, handle_invalid:\n" +
			"skip) are marked by the output valid. Column types follow from what is done to them: a number is float64. --like takes\n" +
			"them from a file with such rows instead; a column of whole numbers has no missing ones then. A step or layer that ONNX\n" +
			"does not have is refused by name.\n\n" +
			"An ensemble that combines by the mean becomes one model that ends with an average, one that lists a model of many\n" +
			"outputs. --member writes one of its models alone.",
		Example: "  dkpipe model export --to onnx --out model.onnx out/model\n  dkpipe model export --to onnx --without-transform --out layers.onnx out/model\n" +
			"  dkpipe model export --to keras --out hdfs://ns/models/model.keras out/model/v000003\n" +
			"  dkpipe model export --member 0 --out first.keras out/ensemble",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r := &writtenReport{}
			return a.data(c, r, func(ctx context.Context, j *job) error { return j.exportModel(ctx, r, args[0], o) })
		},
	}
	c.Flags().StringVar(&o.to, "to", "", "keras, onnx or safetensors (default: by the ending of --out), `FORMAT`")
	c.Flags().StringVar(&o.out, "out", "", "the file to write, `URI`")
	c.Flags().StringVar(&o.like, "like", "", "onnx: raw rows that tell the columns' types, `URI`")
	c.Flags().BoolVar(&o.withoutTransform, "without-transform", false, "onnx: the layers alone, for rows that were transformed before")
	c.Flags().BoolVar(&o.force, "force", false, "replace a file that exists")
	memberFlag(c, &o.member)
	definitionFlag(c, &o.definition)
	return c
}

func (j *job) exportModel(ctx context.Context, r *writtenReport, name string, o exportOptions) error {
	if o.out == "" {
		return usage("dkpipe model export --to onnx --out model.onnx "+name, "export needs --out")
	}
	format := o.to
	if format == "" {
		var err error
		if format, err = formatOfOutput(o.out); err != nil {
			return err
		}
	}
	switch format {
	case formatKeras, formatSafetensors, formatONNX:
	case formatJSON:
		return usage("dkpipe model convert "+name+" "+o.out, "export does not write definitions")
	default:
		return usage("formats are keras, onnx and safetensors", "--to %s: there is no such format", o.to)
	}
	if format != formatONNX && (o.like != "" || o.withoutTransform) {
		return usage("leave them out", "--like and --without-transform are for --to onnx")
	}
	if named, err := formatOfOutput(o.out); err == nil && named != format {
		return usage("leave --to out, or end the name in ."+format, "--to %s and --out %s name two formats", o.to, o.out)
	}
	m, err := j.openModel(ctx, name, o.definition)
	if err != nil {
		return err
	}
	if err := weightsOf(m); err != nil {
		return err
	}
	if m, err = m.one(o.member); err != nil {
		return err
	}
	if format != formatONNX {
		return j.writeModel(ctx, r, m, o.out, format, o.force)
	}
	f, err := j.buildONNX(ctx, m, o)
	if err != nil {
		return inFile(m.at.String(), err)
	}
	to, s, err := j.save(ctx, o.out, o.force, f.Size(), func(w io.Writer) error { _, err := f.WriteTo(w); return err })
	if err != nil {
		return err
	}
	r.Model, r.Output, r.Format, r.sum = m.at.String(), to.String(), format, s
	r.Parameters, r.Inputs, r.Outputs, r.Nodes = len(m.params)+len(m.state), f.Inputs, f.Outputs, f.Nodes
	r.Warnings = append(r.Warnings, j.report.Warnings...)
	r.notes = append(r.notes, "inputs    "+portsOf(f.Inputs), "outputs   "+portsOf(f.Outputs))
	return nil
}

// portsOf lists the inputs or outputs of a file, the first few of many.
func portsOf(ports []onnx.Value) string {
	const few = 6
	var out []string
	for i, p := range ports {
		if i == few && len(ports) > few+2 {
			out = append(out, fmt.Sprintf("… %d more", len(ports)-few))
			break
		}
		shape := "[N"
		for _, d := range p.Shape {
			shape += fmt.Sprintf(", %d", d)
		}
		out = append(out, fmt.Sprintf("%s %s%s]", p.Name, p.Type, shape))
	}
	return strings.Join(out, ", ")
}

func (j *job) buildONNX(ctx context.Context, m *modelSource, o exportOptions) (*onnx.File, error) {
	in := onnx.Model{Definition: m.def, Params: m.params, State: m.state, Version: buildVersion(), Metadata: map[string]string{}}
	if b := m.bundle; b != nil {
		in.Doc = fmt.Sprintf("trained by %s on %s", b.Info.Trainer, path.Base(path.Dir(b.Info.Dataset))+"/"+path.Base(b.Info.Dataset))
		in.Metadata = map[string]string{"dkpipe_run": b.Info.Run, "dkpipe_created": b.Info.Created.Format("2006-01-02T15:04:05Z"), "dkpipe_spec_sha256": b.Info.SpecSHA256,
			"dkpipe_transform_sha256": b.TransformSHA256}
		if !o.withoutTransform {
			in.Transform, in.X = b.Transform, b.X
		}
	}
	if o.like != "" {
		if in.X == nil {
			return nil, usage("leave it out", "--like is for the raw columns of a published model")
		}
		types, err := j.columnTypes(ctx, o.like)
		if err != nil {
			return nil, err
		}
		in.Types = types
	}
	return onnx.Build(in)
}

// columnTypes reads the types of raw columns from a file.
func (j *job) columnTypes(ctx context.Context, name string) (map[string]expr.Type, error) {
	files, err := expand(ctx, j.stores, []string{name})
	if err != nil {
		return nil, err
	}
	format, err := formatOf(files[0])
	if err != nil {
		return nil, err
	}
	table, err := local.OpenTable(ctx, anywhere{j.stores}, pipeline.Source{Format: format, Files: files[:1]})
	if err != nil {
		return nil, err
	}
	defer table.Close()
	types := map[string]expr.Type{}
	for _, f := range table.Fields() {
		types[f.Name] = f.Type
	}
	return types, nil
}
