package spec
import ("testing";"fmt";"os")
func TestExplore(t *testing.T) {
	s, err := ReadFile("../../examples/quickstart/job.yaml", Options{Need: ForRun})
	fmt.Printf("%+v\n%v\n", s!=nil, err)
	if s!=nil { b:=*s; b.Bytes=nil; fmt.Printf("%+v\n", b)}
	for _, y := range []string{
		"a: {{x}}\n", "a: {{x}}/b\n", "name: \"{{x}}\"\n", "train: {batch_sise: 3, loss: mse}\n",
		"train:\n  batch_sise: 3\n\tloss: x\n", "name: a: b\n", "name: 'x\nb: 2\n", "train: {loss: mse\nsplit: {}\n",
		"transform:\n  - min_max:\n    input: x\n", "source: {csv: *.csv}\n", "name:digits\n", "name:digits\nsource: {csv: x}\n",
		"train: [1,\n", "a: b\n c: d\n", "- a\n- b\n", "---\nname: x\n---\nname: y\n", "name: x\nname: y\n", "a:\n  - b\n c\n", "", "# only\n", "name: \"a\\qb\"\n",
		"train:\n  loss: mse\n   epochs: 3\n", "train:\n  loss: mse\n epochs: 3\n", "name: @x\n", "source: {csv: a,b.csv}\n", "<<<<<<< HEAD\nname: x\n=======\nname: y\n>>>>>>> z\n","name: x\n<<<<<<< HEAD\nsplit: {seed: 1}\n=======\nsplit: {seed: 2}\n>>>>>>> z\n",
		"train:\n  learning_rate: 3\n  loss: mse\nepochs: 3\n", "columns: {x: [a, a], y: a, keep: [1]}\n", "train: {loss: mse, epochs: '3', batch_size: 3.0, workers: 1e3, seed: 007, launch: proces}\n",
	} {
		s, err := Read("job.yaml", []byte(y), Options{})
		fmt.Printf("--- %q %v\n%v\n", y, s!=nil, err)
		if e, ok := err.(*Error); ok { fmt.Println("   hint:", e.ErrorHint()) }
	}
	_ = os.Args
}
