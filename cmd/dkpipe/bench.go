package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dkpipe/ps/psrpc"
)

// benchCase is one measured figure beside its limit.
type benchCase struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Reference float64 `json:"reference,omitempty"` // the limit, in the same unit
	Ratio     float64 `json:"ratio,omitempty"`     // median of value/reference, round by round
}

// contest is a piece of work and the limit that it is measured against. Both functions do the same amount of work.
type contest struct {
	name, unit string
	amount     float64 // units of work in one call: rate = amount / seconds
	work       func() error
	limit      func() error // nil: there is none
}

// benchReport is the JSON of every bench command.
type benchReport struct {
	Command string      `json:"command"`
	Rounds  int         `json:"rounds"`
	Limit   string      `json:"limit"` // what the reference is
	Cases   []benchCase `json:"cases"`
}

func (a *app) benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine: every rate beside the limit it is held to, in one run",
		Long: "Measures parts of dkpipe beside their limits. Rounds are interleaved, so that a machine that gets slower does so for\n" +
			"both; values are medians, and the ratio is the median of the ratios of the rounds.",
		Example: "  dkpipe bench feed\n  dkpipe bench exchange --json",
		RunE:    a.group,
	}
	for _, b := range []struct {
		name, short, limit string
		run                func(ctx context.Context, rounds int) ([]benchCase, error)
	}{
		{"step", "A whole training step", "the step's bare matrix products, one thread", a.benchStep},
		{"feed", "Batches out of a dataset", "memcpy of the same bytes when cached, a plain read of the file when not", benchFeed},
		{"exchange", "A push and pull with the parameter server", "the same bytes both ways over a bare socket", benchExchange},
		{"preprocess", "A CSV file into a dataset", "a plain read of the CSV, 1 MiB at a time, or a plain write of as many bytes as the shards have, with fsync", benchPreprocess},
		{"kernel", "Matrix products of a training step", "gonum's Sgemm, which may use all cores", a.benchKernel},
	} {
		rounds := 5
		sub := &cobra.Command{
			Use: b.name, Short: b.short, Args: cobra.NoArgs, Example: "  dkpipe bench " + b.name + " --rounds 9 --json",
			RunE: func(c *cobra.Command, _ []string) error {
				if rounds < 5 {
					return usage("fewer rounds say nothing on a busy machine", "--rounds %d: at least 5", rounds)
				}
				cases, err := b.run(c.Context(), rounds)
				if err != nil {
					return err
				}
				a.sayBench(benchReport{Command: "bench " + b.name, Rounds: rounds, Limit: b.limit, Cases: cases})
				return nil
			},
		}
		sub.Flags().IntVar(&rounds, "rounds", 5, "interleaved rounds, at least 5")
		c.AddCommand(sub)
	}
	return c
}

func (a *app) sayBench(r benchReport) {
	if a.json {
		a.printJSON(r)
		return
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(a.stdout, "%s: medians of %d interleaved rounds; limit: %s\n", r.Command, r.Rounds, r.Limit)
	fmt.Fprintf(w, "case\tvalue\tlimit\tratio\tunit\t\n")
	for _, c := range r.Cases {
		limit, ratio := "", ""
		if c.Reference != 0 {
			limit, ratio = formatRate(c.Reference), formatRatio(c.Ratio)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", c.Name, formatRate(c.Value), limit, ratio, c.Unit)
	}
	w.Flush()
}

func formatRatio(v float64) string {
	if v < 0.1 {
		return fmt.Sprintf("%.4f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func formatRate(v float64) string {
	if math.Abs(v) >= 1000 {
		return thousands(int64(math.Round(v)))
	}
	return strings.TrimSuffix(fmt.Sprintf("%.3g", v), ".0")
}

// compete runs contests in interleaved rounds after one round to warm up.
func compete(ctx context.Context, rounds int, contests []contest) ([]benchCase, error) {
	values := make([][]float64, len(contests))
	limits := make([][]float64, len(contests))
	for round := range rounds + 1 {
		for i, c := range contests {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			v, err := rate(c.amount, c.work)
			if err != nil {
				return nil, err
			}
			l := 0.0
			if c.limit != nil {
				if l, err = rate(c.amount, c.limit); err != nil {
					return nil, err
				}
			}
			if round > 0 {
				values[i], limits[i] = append(values[i], v), append(limits[i], l)
			}
		}
	}
	cases := make([]benchCase, len(contests))
	for i, c := range contests {
		cases[i] = benchCase{Name: c.name, Unit: c.unit, Value: median(values[i])}
		if c.limit != nil {
			ratios := make([]float64, rounds)
			for r := range ratios {
				ratios[r] = values[i][r] / limits[i][r]
			}
			cases[i].Reference, cases[i].Ratio = median(limits[i]), median(ratios)
		}
	}
	return cases, nil
}

// rate repeats a piece of work for at least 50 ms, so that the clock's steps do not count.
func rate(amount float64, work func() error) (float64, error) {
	start, n := time.Now(), 0
	for n == 0 || time.Since(start) < 50*time.Millisecond {
		if err := work(); err != nil {
			return 0, err
		}
		n++
	}
	return amount * float64(n) / time.Since(start).Seconds(), nil
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[len(x)/2] + x[(len(x)-1)/2]) / 2
}

func benchExchange(ctx context.Context, rounds int) ([]benchCase, error) {
	measured, err := psrpc.BenchExchange(ctx, psrpc.BenchOptions{Rounds: rounds})
	if err != nil {
		return nil, err
	}
	cases := make([]benchCase, len(measured))
	for i, c := range measured {
		cases[i] = benchCase(c)
	}
	return cases, nil
}
