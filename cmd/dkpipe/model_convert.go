package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
)

// writtenReport is what convert, export and init did.
type writtenReport struct {
	dataHead
	Model  string `json:"model"`
	Output string `json:"output"`
	Format string `json:"format"`
	sum
	Parameters int      `json:"parameters"`
	Inputs     any      `json:"inputs,omitempty"` // of an ONNX file
	Outputs    any      `json:"outputs,omitempty"`
	Nodes      int      `json:"nodes,omitempty"`
	notes      []string // for people
}

func (r *writtenReport) print(a *app) {
	fmt.Fprintf(a.stdout, "%s: %s, %s parameters, %s\n", r.Output, r.Format, thousands(int64(r.Parameters)), humanBytes(r.Bytes))
	for _, n := range r.notes {
		fmt.Fprintln(a.stdout, n)
	}
}

func (a *app) modelConvertCommand() *cobra.Command {
	var definition string
	var force bool
	var member int
	c := &cobra.Command{
		Use:   "convert IN OUT",
		Short: "Turn a model into a file of another format",
		Long: "Reads a published model or a model file (.keras, .h5, Keras JSON, .safetensors) and writes OUT in the format that its\n" +
			"ending names: .keras, .json (the definition alone) or .safetensors (with the definition in its metadata). A published\n" +
			"model's preprocessing is not part of these formats; export --to onnx has it.",
		Example: "  dkpipe model convert old.h5 model.keras\n  dkpipe model convert out/model model.safetensors\n" +
			"  dkpipe model convert --definition model.json old.weights.h5 hdfs://ns/models/model.keras",
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			r := &writtenReport{}
			return a.data(c, r, func(ctx context.Context, j *job) error {
				format, err := formatOfOutput(args[1])
				if err != nil {
					return err
				}
				if format == formatONNX {
					return usage("dkpipe model export --to onnx --out "+args[1]+" "+args[0], "convert does not write ONNX files")
				}
				m, err := j.openModel(ctx, args[0], definition)
				if err != nil {
					return err
				}
				if m, err = m.one(member); err != nil {
					return err
				}
				return j.writeModel(ctx, r, m, args[1], format, force)
			})
		},
	}
	definitionFlag(c, &definition)
	memberFlag(c, &member)
	c.Flags().BoolVar(&force, "force", false, "replace a file that exists")
	return c
}

// memberFlag adds --member to commands that write models.
func memberFlag(c *cobra.Command, member *int) {
	c.Flags().IntVar(member, "member", -1, "of an ensemble: write only model `K`, from 0; -1 writes all as one")
}

// writeModel writes a file that holds a model without its preprocessing.
func (j *job) writeModel(ctx context.Context, r *writtenReport, m *modelSource, out, format string, force bool) error {
	vars, err := m.def.Variables()
	if err != nil {
		return err
	}
	for _, v := range vars {
		r.Parameters += v.Len
	}
	if m.bytes > 0 && m.at.String() == out {
		return usage("write to another file", "%s is the file that is read", out)
	}
	to, s, err := j.save(ctx, out, force, int64(4*r.Parameters), func(w io.Writer) error { return m.write(w, format) })
	if err != nil {
		return err
	}
	r.Model, r.Output, r.Format, r.sum = m.at.String(), to.String(), format, s
	r.Warnings = append(r.Warnings, j.report.Warnings...)
	if m.bundle != nil && len(m.bundle.Transform) > 0 && format != formatJSON {
		r.notes = append(r.notes, "the file takes transformed rows: the preprocessing stays in "+m.at.String()+"; export --to onnx takes it along")
	}
	return nil
}

// weightsOf refuses a definition where weights are needed.
func weightsOf(m *modelSource) error {
	if m.hasWeights() {
		return nil
	}
	return &pipeline.Error{Kind: pipeline.Usage, Message: m.at.String() + " holds a definition and no weights",
		Hint: "dkpipe model init --keras " + m.at.String() + " --out model.keras makes some"}
}
