// Bench measures banger against floors taken in the same run on the same
// machine, and prints ratios: a table for people, JSON for the record. The
// method is in docs/benchmarks.md. Absolute times are shown for orientation
// only; under emulation they say nothing of another machine.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"
)

// Row is one result.
type Row struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Floor  float64 `json:"floor,omitempty"` // what Value is compared with; 0 for a plain figure
	Unit   string  `json:"unit"`
	Ratio  float64 `json:"ratio"` // Value / Floor, or Value for a plain figure
	Bound  float64 `json:"bound"`
	AtMost bool    `json:"at_most"` // the bound is an upper one
	OK     bool    `json:"ok"`
}

// Report is a whole run.
type Report struct {
	Time     time.Time `json:"time"`
	Accel    string    `json:"accel"` // tcg: the figures are emulated
	CPUs     int       `json:"cpus"`
	Rounds   int       `json:"rounds"`
	Rows     []Row     `json:"rows"`
	Failures []string  `json:"failures,omitempty"`
}

func (r *Report) compare(name, unit string, value, floor, bound float64, atMost bool) {
	ratio := value
	if floor != 0 {
		ratio = value / floor
	}
	ok := ratio <= bound
	if !atMost {
		ok = ratio >= bound
	}
	r.Rows = append(r.Rows, Row{Name: name, Value: value, Floor: floor, Unit: unit, Ratio: ratio, Bound: bound, AtMost: atMost, OK: ok})
}

func main() {
	rounds := flag.Int("rounds", 7, "how often each thing is measured; the median counts")
	bin := flag.String("bin", "bin", "directory of the built binaries")
	out := flag.String("json", "bench.out", "file for the JSON report")
	only := flag.String("only", "", "one part alone: boot, exec, ssh, files, disk, idle, network, version, list, fleet, image or pull")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *bin, *out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, bin, out, only string) (err error) {
	b, err := newBench(ctx, rounds, bin)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := b.close(); err == nil {
			err = cerr
		}
	}()
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"boot", b.boot}, {"exec", b.exec}, {"ssh", b.ssh}, {"files", b.files}, {"disk", b.disk}, {"idle", b.idle}, {"network", b.network}, {"version", b.version}, {"list", b.list}, {"fleet", b.fleet}, {"image", b.image}, {"pull", b.pull}} {
		if only != "" && only != part.name {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", part.name)
		if err := part.do(ctx); err != nil {
			b.report.Failures = append(b.report.Failures, fmt.Sprintf("%s: %v", part.name, err))
		}
	}
	return b.report.write(out)
}

// write prints the table and leaves the JSON.
func (r *Report) write(out string) error {
	note := ""
	if r.Accel == "tcg" {
		note = "; EMULATED: compare the ratios only"
	}
	fmt.Printf("accel %s, %d CPUs, medians of %d%s\n\n", r.Accel, r.CPUs, r.Rounds, note)
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "what\tmeasured\tfloor\tratio\tbound\t")
	for _, row := range r.Rows {
		_, _ = fmt.Fprintln(w, row)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, f := range r.Failures {
		fmt.Println("FAILED", f)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}

func (r Row) String() string {
	verdict, sign := "ok", "≥"
	if !r.OK {
		verdict = "MISSED"
	}
	if r.AtMost {
		sign = "≤"
	}
	floor, ratio := "", ""
	if r.Floor != 0 {
		floor, ratio = fmt.Sprintf("%.3f %s", r.Floor, r.Unit), fmt.Sprintf("%.2f", r.Ratio)
	}
	return fmt.Sprintf("%s\t%.3f %s\t%s\t%s\t%s %.2f\t%s", r.Name, r.Value, r.Unit, floor, ratio, sign, r.Bound, verdict)
}

// median of a list, which it sorts.
func median(list []float64) float64 {
	slices.Sort(list)
	if len(list) == 0 {
		return 0
	}
	return list[len(list)/2]
}

// seconds is how long do takes.
func seconds(do func() error) (float64, error) {
	start := time.Now()
	err := do()
	return time.Since(start).Seconds(), err
}
