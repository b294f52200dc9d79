package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio/publish"
	"dkpipe/internal/box"
	"dkpipe/trainers"
)

// flagValues are the values that flags with a fixed set of them take, by command (as in CommandPath, without dkpipe) and
// flag; an empty command stands for all that have such a flag.
func flagValues() map[string]map[string][]string {
	return map[string]map[string][]string{
		"": {
			"launch": {"in-process", "process", "join", "spark"},
			"codec":  {"fp32", "bf16", "int8", "topk", "auto"},
			"split":  splits,
		},
		"predict":      {"mode": {"error", "overwrite", "append"}},
		"data import":  {"format": {"idx", "csv", "json", "arrow", "parquet"}, "to": {"parquet", "csv"}},
		"model export": {"to": {"keras", "onnx", "safetensors"}},
		"box up":       {"spark": {box.DefaultSpark}},
	}
}

// exampleOfCompletion gives the commands that cobra makes an example in their help, as all others have.
func exampleOfCompletion(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Example = "  source <(dkpipe completion bash)"
		for shell, example := range map[string]string{
			"bash": "  source <(dkpipe completion bash)", "zsh": "  source <(dkpipe completion zsh)",
			"fish": "  dkpipe completion fish | source", "powershell": "  dkpipe completion powershell | Out-String | Invoke-Expression",
		} {
			if s, _, err := c.Find([]string{shell}); err == nil && s != c {
				s.Example = example
			}
		}
	}
}

// completeFlags has the shell offer these values, and the names of fields that people overrule most.
func completeFlags(root *cobra.Command) {
	values := flagValues()
	for _, c := range root.Commands() {
		path := strings.TrimPrefix(c.CommandPath(), "dkpipe ")
		for _, of := range []string{"", path} {
			for flag, fixed := range values[of] {
				if c.Flags().Lookup(flag) != nil {
					_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(fixed, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there
				}
			}
		}
		if c.Flags().Lookup("set") != nil {
			_ = c.RegisterFlagCompletionFunc("set", completeSet)
		}
		completeFlags(c)
	}
}

// completeSet offers fields of a spec, and the names of trainers.
func completeSet(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	var words []string
	if strings.HasPrefix(word, "train.trainer=") {
		for _, name := range trainers.Names() {
			words = append(words, "train.trainer="+name)
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	for _, field := range []string{"batch_size", "epochs", "launch", "seed", "trainer", "window", "workers"} {
		words = append(words, "train."+field+"=")
	}
	return append(words, "dataset.path=", "output.path="), cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

// completeVersion offers the versions of the model that the words before name, the newest first.
func (a *app) completeVersion(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	stores := a.newStores()
	defer stores.Close()
	root, err := openPlace(c.Context(), stores, args[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	versions, err := publish.Versions(c.Context(), root.fs, root.path)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, v := range slices.Backward(versions) {
		names = append(names, v.String())
	}
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
