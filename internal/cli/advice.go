package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

// asGroup makes cmd one that only holds others: alone it shows its help, and an
// unknown verb is an error, which cobra by itself makes it only at the root.
func asGroup(cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return noSuchVerb(cmd, args)
	}
	return cmd
}

// helpOn is banger help, of which cobra's own takes whatever it does not know for
// nothing.
func helpOn(cmd *cobra.Command, args []string) error {
	verb, rest, err := cmd.Root().Find(args)
	if err != nil || len(rest) > 0 && verb.HasSubCommands() {
		return noSuchVerb(verb, rest)
	}
	verb.InitDefaultHelpFlag()
	return verb.Help()
}

// noSuchVerb is the error for what was typed behind a group: a verb that it does
// not have, and what came with it.
func noSuchVerb(cmd *cobra.Command, typed []string) error {
	err := banger.Errorf(banger.KindInvalid, "%s has no %q", verbOf(cmd), typed[0])
	verb := meant(cmd, typed[0])
	if verb == nil {
		return err.WithNext("%s --help", cmd.CommandPath())
	}
	return err.WithNext("%s", strings.Join(append([]string{verb.CommandPath()}, alongWith(verb, typed[1:])...), " "))
}

// meant is the verb that somebody will have meant by a word: one that is called so
// here or, behind banger alone, elsewhere, in vm before in any; else one that is
// called nearly so.
func meant(cmd *cobra.Command, word string) *cobra.Command {
	root := Documented()
	groups := []*cobra.Command{root}
	if cmd.HasParent() {
		groups[0], _, _ = root.Find(strings.Fields(verbOf(cmd)))
	} else {
		vm, _, _ := root.Find([]string{"vm"})
		groups = append(append(groups, vm), root.Commands()...)
	}
	for _, g := range groups {
		for _, verb := range g.Commands() {
			if verb.Name() == word || verb.HasAlias(word) || slices.Contains(verb.SuggestFor, word) {
				return verb
			}
		}
	}
	return nearly(word, groups[:min(len(groups), 2)])
}

// nearly is the verb whose name is nearest to a word. Who errs in more than one
// letter will have the first one right.
func nearly(word string, groups []*cobra.Command) *cobra.Command {
	for _, distance := range []int{1, 2} {
		for _, g := range groups {
			g.SuggestionsMinimumDistance = distance
			for _, name := range g.SuggestionsFor(word) {
				if verb, _, err := g.Find([]string{name}); err == nil && (distance == 1 || name[0] == word[0]) {
					return verb
				}
			}
		}
	}
	return nil
}

// alongWith is what can be repeated of the arguments of a verb that is not there for
// the one that is: without flags that it does not know, and so that it can be pasted.
func alongWith(verb *cobra.Command, args []string) []string {
	if verb.ParseFlags(args) != nil {
		args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return strings.HasPrefix(arg, "-") })
	}
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = shellQuoted(arg)
	}
	return words
}

// flagError words what pflag refuses in our manner: the flag, then why. Where no
// flag can be known because the verb is not, it is the verb that is wrong.
func (a *app) flagError(cmd *cobra.Command, err error) error {
	if typed := behind(cmd, a.args); cmd.HasSubCommands() && len(typed) > 0 {
		return noSuchVerb(cmd, typed)
	}
	return flagError(cmd, err)
}

// behind is what args hold behind the words that lead to cmd, from the next word on.
func behind(cmd *cobra.Command, args []string) []string {
	path := strings.Fields(cmd.CommandPath())[1:]
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-o" || arg == "--output":
			i++ // its value
		case strings.HasPrefix(arg, "-"):
		case len(path) == 0:
			return args[i:]
		case arg == path[0]:
			path = path[1:]
		}
	}
	return nil
}
