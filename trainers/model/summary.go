package model

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Summary is a table of the layers with the shapes of their results and their numbers of parameters, as Keras
// prints it. The batch dimension is written None. It ends with a newline.
func (n *Network) Summary() string { return n.def.Summary() }

// Summary is the table of Network.Summary; of a definition that is not sound it is the complaint.
func (d *Definition) Summary() string {
	shapes, err := d.shapes()
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Model: %q\n", d.Name)
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "Layer (type)\tOutput Shape\tParam #\tConnected to\n")
	for _, in := range d.Inputs {
		fmt.Fprintf(w, "%s (input)\t%s\t0\t\n", in.Name, batchShape(in.Shape))
	}
	total, kept := 0, 0
	for _, l := range d.Layers {
		in, err := inputShapes(shapes, l)
		if err != nil {
			return err.Error() + "\n"
		}
		count := 0
		for _, v := range l.Op.variables(in) {
			count += size(v.shape)
			if v.state || l.Frozen {
				kept += size(v.shape)
			}
		}
		total += count
		fmt.Fprintf(w, "%s (%s)\t%s\t%s\t%s\n", l.Name, l.Op.Kind(), batchShape(shapes[l.Name]), thousands(count), strings.Join(l.From, ", "))
	}
	w.Flush() // into memory: it cannot fail
	fmt.Fprintf(&b, "Total params: %s (%s)\n", thousands(total), bytesText(4*total))
	if kept > 0 {
		fmt.Fprintf(&b, "Trainable params: %s (%s)\n", thousands(total-kept), bytesText(4*(total-kept)))
		fmt.Fprintf(&b, "Non-trainable params: %s (%s)\n", thousands(kept), bytesText(4*kept))
	}
	return b.String()
}

func batchShape(shape []int) string {
	var b strings.Builder
	b.WriteString("(None")
	for _, d := range shape {
		fmt.Fprintf(&b, ", %d", d)
	}
	return b.String() + ")"
}

// thousands writes 648010 as 648,010.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func bytesText(n int) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.2f KB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.2f MB", float64(n)/(1<<20))
}
