package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	gonum "gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// parityReport is what dkpipe parity --json prints.
type parityReport struct {
	Command  string      `json:"command"`
	Status   string      `json:"status"`
	Dataset  string      `json:"dataset"`
	Trainer  string      `json:"trainer"`
	Launch   string      `json:"launch"`
	Metric   string      `json:"metric"`
	Split    string      `json:"split"`
	Cores    int         `json:"cores"`
	Rows     []parityRow `json:"workers"`
	Runs     []parityRun `json:"runs"`
	Warnings []string    `json:"warnings,omitempty"`
}

// parityRun is one training.
type parityRun struct {
	Workers int        `json:"workers"`
	Seed    int64      `json:"seed"`
	Value   float64    `json:"value"` // of the metric
	Seconds float64    `json:"seconds"`
	Samples int64      `json:"samples"`
	Rate    float64    `json:"samples_per_s"` // once all workers are at work
	Shares  timeShares `json:"shares"`
}

// parityRow is a number of workers, over all seeds, beside the first number.
type parityRow struct {
	Workers    int         `json:"workers"`
	Value      float64     `json:"value"` // mean
	Gap        float64     `json:"gap"`   // mean of the differences to the first number of workers with the same seed
	Interval   *[2]float64 `json:"gap_interval"`
	Rate       float64     `json:"samples_per_s"`
	SpeedUp    float64     `json:"speed_up"`
	Efficiency float64     `json:"efficiency"`
	Shares     timeShares  `json:"shares"`
	Bottleneck string      `json:"bottleneck"`
}

// confidence is that of the intervals.
const confidence = 0.95

// summarise fills Rows from Runs.
func (r *parityReport) summarise(workers []int) {
	reference := map[int64]float64{}
	for _, n := range workers {
		var values, gaps []float64
		var seconds float64 // for a sample
		var s timeShares
		for _, x := range r.Runs {
			if x.Workers != n {
				continue
			}
			if n == workers[0] {
				reference[x.Seed] = x.Value
			}
			values, gaps = append(values, x.Value), append(gaps, x.Value-reference[x.Seed])
			seconds += 1 / max(x.Rate, 1e-9)
			s.Feed, s.Compute, s.Link, s.Server, s.Peers = s.Feed+x.Shares.Feed, s.Compute+x.Shares.Compute, s.Link+x.Shares.Link, s.Server+x.Shares.Server, s.Peers+x.Shares.Peers
		}
		k := float64(len(values))
		s = timeShares{Feed: s.Feed / k, Compute: s.Compute / k, Link: s.Link / k, Server: s.Server / k, Peers: s.Peers / k}
		row := parityRow{Workers: n, Value: gonum.Mean(values, nil), Gap: gonum.Mean(gaps, nil), Rate: k / seconds, SpeedUp: 1, Efficiency: 1,
			Shares: s, Bottleneck: s.bottleneck()}
		if n != workers[0] {
			row.Interval = interval(gaps)
			row.SpeedUp = row.Rate / r.Rows[0].Rate
			row.Efficiency = row.SpeedUp * float64(workers[0]) / float64(n)
		}
		r.Rows = append(r.Rows, row)
	}
}

// interval is Student's confidence interval of a mean; nil for fewer than two values.
func interval(x []float64) *[2]float64 {
	if len(x) < 2 {
		return nil
	}
	n := float64(len(x))
	mean, deviation := gonum.MeanStdDev(x, nil)
	t := distuv.StudentsT{Sigma: 1, Nu: n - 1}.Quantile((1 + confidence) / 2)
	half := t * deviation / math.Sqrt(n)
	return &[2]float64{mean - half, mean + half}
}

// print writes the table for people.
func (r *parityReport) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s, launch %s, on %s, %d cores; %s of the %s rows\n", r.Trainer, r.Launch, r.Dataset, r.Cores, r.Metric, r.Split)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "workers\t%s\tgap\t95 %% interval\tsamples/s\tspeed-up\tefficiency\tfeed\tcompute\tlink\tserver\tpeers\tbottleneck\t\n", r.Metric)
	for _, x := range r.Rows {
		gap, within := "", ""
		if x.Workers != r.Rows[0].Workers {
			gap = fmt.Sprintf("%+.4f", x.Gap)
		}
		if x.Interval != nil {
			within = fmt.Sprintf("%+.4f … %+.4f", x.Interval[0], x.Interval[1])
		}
		s := x.Shares
		fmt.Fprintf(w, "%d\t%.4f\t%s\t%s\t%s\t%.2fx\t%.0f %%\t%.0f %%\t%.0f %%\t%.0f %%\t%.0f %%\t%.0f %%\t%s\t\n", x.Workers, x.Value, gap, within, thousands(int64(x.Rate)),
			x.SpeedUp, 100*x.Efficiency, 100*s.Feed, 100*s.Compute, 100*s.Link, 100*s.Server, 100*s.Peers, x.Bottleneck)
	}
	w.Flush()
	for _, warning := range r.Warnings {
		fmt.Fprintln(out, "  warning:", warning)
	}
}
