package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/version"
)

// branch is what stands directly behind banger: a verb or a noun.
type branch struct {
	name  string
	group string
	build func(*app) *cobra.Command
}

func branches() []branch {
	return []branch{
		{"run", "short", newRunCommand}, {"ps", "short", newPsCommand}, {"exec", "short", newExecCommand}, {"ssh", "short", newSSHCommand}, {"cp", "short", newCpCommand},
		{"vm", "nouns", newVMCommand}, {"image", "nouns", newImageCommand}, {"kernel", "nouns", newKernelCommand}, {"daemon", "nouns", newDaemonCommand}, {"system", "nouns", newSystemCommand}, {"config", "nouns", newConfigCommand},
		{"doctor", "", newDoctorCommand}, {"events", "", newEventsCommand}, {"ssh-config", "", newSSHConfigCommand}, {"ssh-proxy", "", newSSHProxyCommand}, {"version", "", newVersionCommand},
	}
}

// newRootCommand builds the tree of verbs, of which args, if they begin with the
// name of a branch, need no other: most of banger's own start was once spent on
// verbs that nobody had typed.
func newRootCommand(a *app, args []string) *cobra.Command {
	cmd := newRoot(a)
	all := branches()
	for _, b := range all {
		if len(args) > 0 && b.name == args[0] {
			cmd.AddCommand(b.build(a))
			return cmd
		}
	}
	cmd.AddGroup(&cobra.Group{ID: "short", Title: "Short forms:"}, &cobra.Group{ID: "nouns", Title: "Nouns:"})
	for _, b := range all {
		c := b.build(a)
		c.GroupID = b.group
		cmd.AddCommand(c)
	}
	cmd.InitDefaultCompletionCmd()
	if completion, _, err := cmd.Find([]string{"completion"}); err == nil {
		asGroup(completion)
	}
	cmd.InitDefaultHelpCmd()
	if help, _, err := cmd.Find([]string{"help"}); err == nil {
		help.Run, help.RunE = nil, helpOn
	}
	return cmd
}

func newRoot(a *app) *cobra.Command {
	cmd := newGroup("banger", "Run throwaway and long-lived Linux microVMs on this machine", `Run throwaway and long-lived Linux microVMs on this machine.

  banger run --rm -- uname -a          a command in a VM of its own, nothing left behind
  banger run -d --name web             a VM that stays
  banger exec web -- apt-get update    a command in it
  banger vm delete --force web         gone

Exit codes: 0; 1 it failed; 2 usage or a bad value; 3 no such thing; 4 the state of things forbids it;
130 interrupted. run and exec exit as the command does (126 it cannot be run, 127 it is not there,
128+N signal N), and with 125 for every failure of banger's own.`)
	cmd.SetIn(a.Stdin)
	cmd.SetOut(a.Stdout)
	cmd.SetErr(a.Stderr)
	cmd.SilenceErrors = true
	cmd.SilenceUsage = true
	cmd.SetFlagErrorFunc(a.flagError)
	cmd.PersistentPreRun = func(*cobra.Command, []string) { a.ran = true }
	cmd.PersistentFlags().VarP(&outputValue{json: &a.json}, "output", "o", "`FORM` of the output, errors included: text or json")
	cmd.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no remarks")

	var tell bool
	cmd.Flags().BoolVarP(&tell, "version", "v", false, "version for banger")
	help := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if tell {
			_, err := fmt.Fprintln(a.Stdout, "banger", version.String())
			return err
		}
		return help(cmd, args)
	}
	return cmd
}

func newGroup(use, short, long string) *cobra.Command {
	return asGroup(&cobra.Command{Use: use, Short: short, Long: long})
}

// between wants at least low and at most high arguments; what names them.
func between(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low {
			return usageError(cmd, "%s needs %s", verbOf(cmd), what)
		}
		if len(args) > high {
			return usageError(cmd, "%s takes %s, and %q is more", verbOf(cmd), what, args[high])
		}
		if slices.Contains(args, "") {
			return usageError(cmd, "%s takes %s, and \"\" is none", verbOf(cmd), what)
		}
		return nil
	}
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(cmd, "%s takes no arguments, and %q is one", verbOf(cmd), args[0])
	}
	return nil
}

// oneVM is what verbs take that show something; targetOptions is for those that
// do something.
func oneVM() cobra.PositionalArgs { return between(1, 1, "the name of one VM") }

// usageError is an error in what was typed.
func usageError(cmd *cobra.Command, format string, args ...any) error {
	return banger.Errorf(banger.KindInvalid, "%s", fmt.Sprintf(format, args...)).WithNext("%s --help", cmd.CommandPath())
}
