package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dkpipe/pipeline/spec"
)

// commandHint is the next step after a command that is not there, or that got too many or too few arguments.
func commandHint(c *cobra.Command, args []string) string {
	help := c.CommandPath() + " --help shows how it is used"
	if len(args) == 0 || !c.HasAvailableSubCommands() {
		return help
	}
	var names []string
	for _, s := range c.Commands() {
		if s.IsAvailableCommand() {
			names = append(append(names, s.Name()), s.Aliases...)
		}
	}
	if near := spec.Nearest(args[0], names); near != "" {
		return "did you mean " + c.CommandPath() + " " + near + "?"
	}
	return help
}

// group runs a command that only groups others: it shows what they are.
func (a *app) group(c *cobra.Command, _ []string) error {
	if !a.json {
		return c.Help()
	}
	var names []string
	for _, s := range c.Commands() {
		if s.IsAvailableCommand() {
			names = append(names, s.Name())
		}
	}
	return usage(c.CommandPath()+" --help shows what they do", "%s needs a subcommand: %s", c.CommandPath(), strings.Join(names, ", "))
}

// unknownHelp refuses to help with a command that is not there; help of the group above it would look like an answer.
func unknownHelp(root *cobra.Command, args []string) (*cobra.Command, error) {
	asked := slices.ContainsFunc(args, func(s string) bool { return s == "--help" || s == "-h" })
	if len(args) > 0 && args[0] == "help" {
		asked, args = true, args[1:]
	}
	if !asked {
		return nil, nil
	}
	c, _, err := root.Find(args)
	if err != nil {
		return root, nil // flags that are wrong are told about by the command
	}
	if word := mistyped(c, args); word != "" && word != "help" {
		return c, usage(commandHint(c, []string{word}), "unknown command %q for %q", word, c.CommandPath())
	}
	return nil, nil
}

// mistyped gives the first word behind a command that only groups others; empty when there is none.
func mistyped(c *cobra.Command, args []string) string {
	if !c.HasAvailableSubCommands() {
		return ""
	}
	path := strings.Fields(c.CommandPath())[1:]
	value := false // of the flag before
	for _, arg := range args {
		switch {
		case value:
			value = false
		case arg == "--events":
			value = true
		case len(path) > 0 && arg == path[0]:
			path = path[1:]
		case len(path) == 0 && !strings.HasPrefix(arg, "-"):
			return arg
		}
	}
	return ""
}

// argumentHint is the next step after an argument where none belongs: often what the shell made of a pattern.
func argumentHint(c *cobra.Command, arg string) string {
	if f := c.Flags().Lookup("file"); f != nil && (strings.HasSuffix(arg, ".yaml") || strings.HasSuffix(arg, ".yml")) {
		return "write " + c.CommandPath() + " -f " + arg
	}
	if strings.ContainsAny(arg, "./") {
		return "put a pattern in quotes, so that the shell leaves it alone: --in 'folder/*.csv'"
	}
	return c.CommandPath() + " --help shows how it is used"
}

// flagHint is the next step after a flag that is not there, or that has no value.
func flagHint(c *cobra.Command, err error) string {
	help := c.CommandPath() + " --help lists the flags"
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return help
	}
	name, _, _ = strings.Cut(name, "=")
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { // those of the commands above are among them once flags were parsed
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := spec.Nearest(name, names); near != "" {
		return "did you mean --" + near + "? " + help
	}
	return help
}
